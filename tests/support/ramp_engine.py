"""A program `ollama` for the tests of the real ramp: it sleeps, and says that it is done as llama-server does."""

import sys
from functools import partial

from testbed.stand_in.__main__ import main, timed
from testbed.stand_in.ollama import wanted_tokens
from testbed.stand_in.server import Exchange
from testbed.stand_in.timed import Timed


class RampEngine(Timed):
    async def run(self, exchange: Exchange, text: str) -> None:
        await super().run(exchange, text)
        count = wanted_tokens(exchange) or 96
        print(
            "slot print_timing: id  0 | task 0 | prompt eval time =    2.00 ms /   179 tokens (    0.01 ms per token)"
        )
        print(f"slot print_timing: id  0 | task 0 |        eval time =    9.00 ms /  {count:4} tokens", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:], partial(timed, kind=RampEngine))
