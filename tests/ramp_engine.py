"""A program `ollama` for the tests of the real ramp: it sleeps, and says that it is done as llama-server does."""

import asyncio
import os
import sys
from asyncio import StreamWriter
from typing import Any

from experiments.engine import Engine, Request
from service.ollama_version import VERSION


class RampEngine(Engine):
    """The experiments' engine, in which a model can be made."""

    def _replies(self, request: Request) -> dict[str, Any]:
        return {**super()._replies(request), "/api/create": {"status": "success"}}

    async def _run(self, request: Request, writer: StreamWriter) -> None:
        await super()._run(request, writer)
        count = request.body.get("options", {}).get("num_predict", 96)
        print(
            "slot print_timing: id  0 | task 0 | prompt eval time =    2.00 ms /   179 tokens (    0.01 ms per token)"
        )
        print(f"slot print_timing: id  0 | task 0 |        eval time =    9.00 ms /  {count:4} tokens", flush=True)


def main() -> None:
    if "--version" in sys.argv:
        print(f"ollama version is {VERSION}")
        return
    address = os.environ.get("OLLAMA_HOST", "").removeprefix("http://")
    asyncio.run(RampEngine({**os.environ, "OLLAMA_HOST": address}).serve())


if __name__ == "__main__":
    main()
