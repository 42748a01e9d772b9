"""A stand-in that knows the answers to some questions, and goes wrong as a bad release does: for judging releases."""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from testbed.stand_in.ollama import prompt, wanted_tokens
from testbed.stand_in.server import Exchange
from testbed.stand_in.stepped import Stepped


@dataclass
class Answering(Stepped):
    """answers: by what a prompt ends with; to any other prompt it says as much as it may.

    slower: how many times as long everything takes. wrong: every answer is another question's. empty, errors: shares of
    the answers that have no word, and that are an error.
    """

    answers: Mapping[str, str] = field(default_factory=dict)
    slower: float = 1.0
    wrong: bool = False
    empty: float = 0.0
    errors: float = 0.0
    chance: random.Random = field(default_factory=random.Random)

    async def chat(self, exchange: Exchange) -> None:
        """Answer, or go wrong."""
        if self.chance.random() < self.errors:
            await exchange.reply({"error": "the model runner has failed"}, 500)
        elif self.chance.random() < self.empty:
            await exchange.line(self.last(exchange, 0))
            await exchange.end()
        else:
            await super().chat(exchange)

    def seconds(self, writing: int, unread: int) -> float:
        """Return how long a step takes."""
        return self.slower * super().seconds(writing, unread)

    def tokens(self, exchange: Exchange) -> list[str]:
        """Return an answer; a token has four characters, as English ones have on average."""
        asked = prompt(exchange)
        known = [question for question in self.answers if asked.endswith(question)]
        if not known:
            return super().tokens(exchange)
        others = [answer for question, answer in self.answers.items() if question not in known]
        answer = self.chance.choice(others) if self.wrong else self.answers[known[0]]
        return re.findall(".{1,4}", answer)[: wanted_tokens(exchange)]
