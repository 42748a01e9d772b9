"""A stand-in that sleeps where Ollama computes: each prompt takes its own time, in one of the slots there are.

As Ollama does, it runs as many requests of a model at once as it has slots, lets the others wait without bound, and
drops those whose client has left. How long a request takes is drawn from its prompt, so every system gets the same work
for the same prompt. It writes one JSON line a request, times in seconds since 1970, and one when it starts and when it
ends.

Marks in a prompt, each `[NAME NUMBER]`, change that one answer:
seconds  how long it takes
pieces, size  how many pieces it has, and of how many characters
status  an answer of that status instead
reset, end, error, junk, hang, die  before the piece of that number: reset the connection, end the answer without
    `done`, write an error object, write what isn't JSON, write nothing more, kill this process
"""

import asyncio
import json
import math
import os
import random
import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

from testbed.stand_in.ollama import Ollama, prompt, wanted_tokens
from testbed.stand_in.server import Exchange

LONGEST = 3  # x the mean: in real life max_tokens ends an answer
STEP = 0.1  # seconds; of each, a request computes for its share and sleeps for the rest
MARK = re.compile(r"\[(\w+) ([0-9.]+)\]")
FAULTS = ("reset", "end", "error", "junk", "hang", "die")
CRASHED = {"error": "llama-server has crashed"}


def marks(text: str) -> dict[str, float]:
    """Return what a prompt orders."""
    return {name: float(number) for name, number in MARK.findall(text)}


@dataclass
class Timed(Ollama):
    """seconds: of a request that has a slot to itself, on average.

    variation: their standard deviation over their mean; the distribution is lognormal, cut at 3 x the mean.
    load_seconds: for which the first request waits for the model. cpus: that a running request really uses.
    tokens: of an answer, at even distances. pod: named in each line of the log.
    """

    seconds: float = 12.0
    variation: float = 0.5
    load_seconds: float = 0.0
    cpus: float = 0.0
    slots: int = 1
    tokens: int = 32
    pod: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._free: dict[str, asyncio.Semaphore] = defaultdict(partial(asyncio.Semaphore, self.slots))  # by model
        self._loading = asyncio.Lock()

    async def listen(self, port: int) -> None:
        """Accept connections, and say so."""
        await super().listen(port)
        self.log(event="up", at=time.time(), port=self.port)

    async def serve(self, port: int = 0, started: Callable[[], object] = lambda: None) -> None:
        """Serve until finish() is called, and say when that is over."""
        await super().serve(port, started)
        self.log(event="down", at=time.time())

    def log(self, **fields: Any) -> None:
        """Write a line."""
        print(json.dumps({"pod": self.pod, **fields}), flush=True)

    def duration(self, text: str) -> float:
        """Return the seconds that an answer to a prompt takes, the same in every process."""
        spread = math.log(1 + self.variation**2)
        drawn = random.Random(text).lognormvariate(math.log(self.seconds) - spread / 2, math.sqrt(spread))  # noqa: S311
        return min(drawn, LONGEST * self.seconds)

    async def load(self, name: str) -> None:
        """Load a model, which takes its time."""
        async with self._loading:
            if name not in self.models:
                await asyncio.sleep(self.load_seconds)
                await super().load(name)

    async def chat(self, exchange: Exchange) -> None:
        """Wait for a slot and answer, and write the line of it, however it ends."""
        name = str(exchange.body.get("model"))
        await self.load(name)
        text = prompt(exchange)
        key = sha256(text.encode()).hexdigest()[:16]
        line = {"event": "request", "key": key, "arrived": time.time(), "started": None, "outcome": "left"}
        try:
            async with self._free[name]:
                line["started"] = time.time()
                await self.run(exchange, text)
                line["outcome"] = "complete"
        finally:
            if self._stopping.is_set() and line["outcome"] != "complete":
                line["outcome"] = "cut"
            self.log(**line, ended=time.time())

    async def run(self, exchange: Exchange, text: str) -> None:
        """Answer, with a slot."""
        wanted = marks(text)
        if "status" in wanted:
            await exchange.reply(CRASHED, int(wanted["status"]))
            return
        most, limit = int(wanted.get("pieces", self.tokens)), wanted_tokens(exchange)
        count = most if limit is None or "pieces" in wanted else min(most, limit)
        word = "word ".ljust(int(wanted.get("size", 0)), "x")
        each = wanted.get("seconds", self.duration(text)) / most
        fault = next((name for name in FAULTS if name in wanted), "")
        begun, streamed = time.monotonic(), exchange.body.get("stream", True)
        if streamed:
            await exchange.begin()
        for number in range(count):
            if fault and number == int(wanted[fault]):
                await break_off(exchange, fault)
                return
            await self._compute(begun + (number + 1) * each)
            if streamed:
                await exchange.line(self.piece(exchange, word))
        if not streamed:
            await exchange.reply(self.last(exchange, count, word * count))
            return
        await exchange.line(self.last(exchange, count))
        await exchange.end()

    async def _compute(self, until: float) -> None:
        """Take the time until then, with the share of a CPU that is set."""
        while (left := until - time.monotonic()) > 0:
            step = min(left, STEP)
            busy = time.process_time() + step * self.cpus
            while time.process_time() < busy:
                pass
            await asyncio.sleep(step * (1 - self.cpus))


async def break_off(exchange: Exchange, fault: str) -> None:
    """End an answer as a mark says."""
    if fault == "die":
        os._exit(9)
    elif fault == "reset":
        exchange.reset()
    elif fault == "end":
        await exchange.end()
    elif fault == "error":
        await exchange.line(CRASHED)
        await exchange.end()
    elif fault == "junk":
        await exchange.write(b'5\r\n{"a"\n\r\n0\r\n\r\n')
    else:
        await asyncio.sleep(3600)
