"""As many callers as there are slots, each of whom asks again as soon as it is answered."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import count
from threading import Lock

from tuning.prompts import prompt

TOKENS = 64  # of an answer at most, so that several are begun in a look
ENOUGH = 8  # tokens of each caller, and
BEGUN = 3  # answers begun, without which a look isn't over when its time is
AT_MOST = 12  # times as long does a look take for them: then the setting is as slow as it looks

Ask = Callable[[str, int], Iterator[None]]  # asks a prompt for so many tokens, and yields at each of them


@dataclass
class Answer:
    """When it was asked for, and when each token came, in seconds of time.perf_counter()."""

    asked: float
    tokens: list[float] = field(default_factory=list)


class Callers:
    """A closed loop of `slots` callers for `seconds`, once all of them are being answered.

    At the start all prompts are read at once, for as long as many an answer takes: that isn't counted. The first
    answers end one after the other, so that from then on some are always begun while others are written.
    """

    def __init__(self, ask: Ask, slots: int, seconds: float) -> None:
        self._ask, self._seconds = ask, seconds
        self._numbers, self._lock = count(1), Lock()
        self._limit = time.perf_counter() + AT_MOST * seconds
        self.began = self.ended = 0.0  # when the last caller got its first token; when it was found to be over
        self.answers: list[list[Answer]] = [[] for _ in range(slots)]

    def run(self) -> None:
        """Ask until the time is over and there is enough to tell; raises what asking raises."""
        with ThreadPoolExecutor(len(self.answers)) as pool:
            try:
                for done in as_completed([pool.submit(self._call, index) for index in range(len(self.answers))]):
                    done.result()
            except BaseException:  # of one of them, or an interrupt: the others needn't go on
                self.ended = self.ended or time.perf_counter()
                raise

    def _call(self, index: int) -> None:
        own, limit = self.answers[index], max(1, TOKENS * (index + 1) // len(self.answers))
        while not self._is_over():
            answer = Answer(time.perf_counter())
            own.append(answer)
            for _ in self._ask(prompt(self._next()), limit):
                answer.tokens.append(time.perf_counter())
                if self._is_over():  # looked at after a token, so that the last first token is timed too
                    break
            limit = TOKENS

    def _next(self) -> int:
        with self._lock:
            return next(self._numbers)

    def _is_over(self) -> bool:
        with self._lock:
            now = time.perf_counter()
            if not self.began and all(any(answer.tokens for answer in own) for own in self.answers):
                self.began = now
            due = self.began and now >= self.began + self._seconds and self._has_enough()
            if not self.ended and (due or now >= self._limit):
                self.ended = now
                self.began = self.began or self._limit - AT_MOST * self._seconds
            return bool(self.ended)

    def _has_enough(self) -> bool:
        return len(self._begun()) >= BEGUN and all(sum(map(len, self._written(own))) >= ENOUGH for own in self.answers)

    def _written(self, own: list[Answer]) -> list[list[float]]:
        """Return when tokens came that count, by answer."""
        until = self.ended or float("inf")
        return [[at for at in answer.tokens if self.began <= at <= until] for answer in own]

    def _begun(self) -> list[Answer]:
        answers = [answer for own in self.answers for answer in own if answer.tokens]
        return [answer for answer in answers if answer.asked >= self.began]

    @property
    def tokens(self) -> int:
        """Return how many tokens came in all, those of the start included."""
        return sum(len(answer.tokens) for own in self.answers for answer in own)

    @property
    def rate(self) -> float:
        """Return tokens/s of all callers together."""
        tokens = sum(len(tokens) for own in self.answers for tokens in self._written(own))
        return tokens / (self.ended - self.began)

    @property
    def slowest(self) -> float:
        """Return tokens/s after the first token of the caller who got the fewest."""
        return min(_speed(self._written(own)) for own in self.answers)

    @property
    def first_tokens(self) -> tuple[float, ...]:
        """Return the seconds from each request to its first token; an answer without a token has none.

        Where none was begun in time, they are those of the start, when all prompts were read at once.
        """
        answers = self._begun() or [own[0] for own in self.answers if own and own[0].tokens]
        return tuple(answer.tokens[0] - answer.asked for answer in answers)


def _speed(written: list[list[float]]) -> float:
    told = [tokens for tokens in written if len(tokens) > 1]
    seconds = sum(tokens[-1] - tokens[0] for tokens in told)
    return sum(len(tokens) - 1 for tokens in told) / seconds if seconds else 0.0
