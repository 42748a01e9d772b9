"""The stand-in engine of experiments/engine.py, which also breaks as the prompt tells it to: `[reset 3]`.

Marks in a prompt, each `[NAME NUMBER]`:
seconds  how long the answer takes, instead of ENGINE_SECONDS
pieces, size  how many pieces the answer has, and of how many characters
status  an answer of that status instead
reset, end, error, junk, hang, die  before the piece of that number: reset the connection, end the answer without
    `done`, write an error object, write what isn't JSON, write nothing more, kill this process
"""

import asyncio
import os
import re
import sys
from asyncio import StreamWriter
from typing import Any

from experiments.engine import Engine, Request, chunk, content, head, send

MARK = re.compile(r"\[(\w+) ([0-9.]+)\]")
FAULTS = ("reset", "end", "error", "junk", "hang", "die")
PIECES, SIZE = 10, 5


def marks(prompt: str) -> dict[str, float]:
    """Return what a prompt orders."""
    return {name: float(number) for name, number in MARK.findall(prompt)}


class FaultyEngine(Engine):
    """An engine whose answers break where their prompts say so."""

    def _replies(self, request: Request) -> dict[str, Any]:
        texts = request.body.get("input") or []
        embed = {"embeddings": [[0.6, 0.8] for _ in texts], "prompt_eval_count": len(texts)}
        show = {"capabilities": ["completion", "vision", "tools", "embedding"]}
        return {**super()._replies(request), "/api/embed": embed, "/api/show": show}

    async def _run(self, request: Request, writer: StreamWriter) -> None:
        wanted = marks(request.prompt)
        if "status" in wanted:
            send(writer, int(wanted["status"]), {"error": "llama-server has crashed"})
            return
        if not request.body.get("stream", True):
            await super()._run(request, writer)
            return
        count = int(wanted.get("pieces", PIECES))
        pause = wanted.get("seconds", self.seconds(request.prompt)) / count
        text = "word ".ljust(int(wanted.get("size", SIZE)), "x")
        fault = next((name for name in FAULTS if name in wanted), "")
        writer.write(head(200, "application/x-ndjson", "Transfer-Encoding: chunked"))
        for number in range(count):
            if fault and number == int(wanted[fault]):
                await self._break(fault, writer)
                return
            writer.write(chunk({**content(request, text), "done": False}))
            await writer.drain()
            await asyncio.sleep(pause)
        last = {"done": True, "done_reason": "stop", "prompt_eval_count": 8, "eval_count": count}
        writer.write(chunk({**content(request, ""), **last}) + b"0\r\n\r\n")
        await writer.drain()

    async def _break(self, fault: str, writer: StreamWriter) -> None:
        """End the answer as the mark says."""
        if fault == "die":
            os._exit(9)
        elif fault == "reset":
            writer.transport.abort()
        elif fault == "end":
            writer.write(b"0\r\n\r\n")
        elif fault == "error":
            writer.write(chunk({"error": "llama-server has crashed"}) + b"0\r\n\r\n")
        elif fault == "junk":
            writer.write(b'5\r\n{"a"\n\r\n0\r\n\r\n')
        else:
            await asyncio.sleep(3600)


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM, as `ollama serve` does."""
    if arguments != ["serve"]:
        print("this stand-in for ollama knows one command: serve", file=sys.stderr)
        return 2
    address = os.environ.get("OLLAMA_HOST", "").removeprefix("http://")
    asyncio.run(FaultyEngine({**os.environ, "OLLAMA_HOST": address}).serve())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
