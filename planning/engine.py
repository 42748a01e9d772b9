"""The stand-in for Ollama with slots that slow each other, as llama.cpp's do: all of them go step by step together.

`python -m planning.engine PORT PREFILL DECODE_1 SLOTS DECODE_SLOTS` serves it in a process of its own; speeds in
tokens/s. A prompt has as many tokens as words.
"""

import asyncio
import json
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.stand_in import StandIn


@dataclass
class Sequence:
    """A request that runs: the words of its prompt that are still to be read, and a signal for each token."""

    unread: int
    tokens: asyncio.Queue[None] = field(default_factory=asyncio.Queue)


@dataclass
class Engine(StandIn):
    """Its times are those of a schedule, which a late timer doesn't delay for good."""

    prefill: float = 1.0
    seconds_a_token: list[float] = field(default_factory=list)  # by how many answers are written in a step

    def __post_init__(self) -> None:
        super().__post_init__()
        self._sequences: list[Sequence] = []
        self._stepping: asyncio.Task[None] | None = None

    async def _generate(self, request: web.Request, body: Any) -> web.StreamResponse:
        words = sum(len(message["content"].split()) for message in body["messages"])
        sequence = Sequence(words)
        self._sequences.append(sequence)
        if self._stepping is None or self._stepping.done():
            self._stepping = asyncio.create_task(self._steps())
        try:
            return await self._write(request, body, sequence)
        finally:
            if sequence in self._sequences:
                self._sequences.remove(sequence)

    async def _write(self, request: web.Request, body: Any, sequence: Sequence) -> web.StreamResponse:
        count = body["options"]["num_predict"]
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        for index in range(count):
            await sequence.tokens.get()
            if index == count - 1:
                self._sequences.remove(sequence)
            if not response.prepared:
                await response.prepare(request)
            await response.write(json.dumps(self._piece("word ")).encode() + b"\n")
        await response.write(json.dumps(self._last(count, body)).encode() + b"\n")
        return response

    async def _steps(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while self._sequences:
            batch = list(self._sequences)
            writing = sum(not sequence.unread for sequence in batch)
            due += self.seconds_a_token[writing] + sum(sequence.unread for sequence in batch) / self.prefill
            await asyncio.sleep(max(0.0, due - loop.time()))
            for sequence in batch:
                sequence.unread = 0
                sequence.tokens.put_nowait(None)
            await asyncio.sleep(0)  # those that are complete leave before the next step


def main() -> None:
    """Serve until interrupted."""
    port, prefill, alone, slots, together = map(float, sys.argv[1:])
    growth = (1 / together - 1 / alone) / max(1, slots - 1)
    seconds = [0.0] + [1 / alone + growth * others for others in range(int(slots))]
    engine = Engine(keep_requests=False, prefill=prefill, seconds_a_token=seconds).start(int(port))
    print(engine.url, flush=True)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


if __name__ == "__main__":
    main()
