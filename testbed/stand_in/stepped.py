"""A stand-in with slots that slow each other, as llama.cpp's do: all of them go step by step together.

Its times are those of a schedule, which a late timer doesn't delay for good. A prompt has as many tokens as words.
"""

import asyncio
from dataclasses import dataclass, field

from testbed.stand_in.ollama import MODEL, Ollama
from testbed.stand_in.server import Exchange


@dataclass
class Sequence:
    """A request that runs: the words of its prompt that are still to be read, and a signal for each token."""

    unread: int
    tokens: asyncio.Queue[None] = field(default_factory=asyncio.Queue)


@dataclass
class Stepped(Ollama):
    """prefill: tokens/s of a prompt. seconds_a_token: by how many answers are written in a step."""

    prefill: float = 1.0
    seconds_a_token: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.models.add(MODEL)
        self._sequences: list[Sequence] = []
        self._stepping: asyncio.Task[None] | None = None

    async def chat(self, exchange: Exchange) -> None:
        """Answer, a token a step."""
        words = sum(len(message["content"].split()) for message in exchange.body["messages"])
        sequence = Sequence(words)
        self._sequences.append(sequence)
        if self._stepping is None or self._stepping.done():
            self._stepping = asyncio.create_task(self._steps())
        try:
            await self._write(exchange, sequence)
        finally:
            if sequence in self._sequences:
                self._sequences.remove(sequence)

    def tokens(self, exchange: Exchange) -> list[str]:
        """Return the tokens of an answer."""
        return ["word "] * int(exchange.body["options"]["num_predict"])

    def seconds(self, writing: int, unread: int) -> float:
        """Return how long a step takes in which so many answers are written, and so many words read."""
        return self.seconds_a_token[writing] + unread / self.prefill

    async def _write(self, exchange: Exchange, sequence: Sequence) -> None:
        tokens = self.tokens(exchange)
        for index, token in enumerate(tokens):
            await sequence.tokens.get()
            if index == len(tokens) - 1:
                self._sequences.remove(sequence)
            await exchange.line(self.piece(exchange, token))
        await exchange.line(self.last(exchange, len(tokens)))
        await exchange.end()

    async def _steps(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while self._sequences:
            batch = list(self._sequences)
            writing = sum(not sequence.unread for sequence in batch)
            due += self.seconds(writing, sum(sequence.unread for sequence in batch))
            await asyncio.sleep(max(0.0, due - loop.time()))
            for sequence in batch:
                sequence.unread = 0
                sequence.tokens.put_nowait(None)
            await asyncio.sleep(0)  # those that are complete leave before the next step


def slowing(alone: float, slots: int, together: float) -> list[float]:
    """Return the seconds a token by how many answers are written at once, of tokens/s of one alone and of all slots."""
    growth = (1 / together - 1 / alone) / max(1, slots - 1)
    return [0.0] + [1 / alone + growth * others for others in range(slots)]
