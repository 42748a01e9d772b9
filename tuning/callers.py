"""As many callers as there are slots, each of whom asks again as soon as it is answered."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import count
from threading import Lock

from tuning.prompts import prompt

ENOUGH = 8  # tokens of each caller, without which a look isn't over when its time is
AT_MOST = 12  # times as long does a look take for them: then the setting is as slow as it looks

Ask = Callable[[str], Iterator[None]]  # asks a prompt, and yields at each token


@dataclass
class Answer:
    """When it was asked for, and when each token came, in seconds of time.perf_counter()."""

    asked: float
    tokens: list[float] = field(default_factory=list)


class Callers:
    """A closed loop of `slots` callers for `seconds`."""

    def __init__(self, ask: Ask, slots: int, seconds: float) -> None:
        self._ask = ask
        self._numbers, self._lock = count(1), Lock()
        self.started = time.perf_counter()
        self._until, self._limit = self.started + seconds, self.started + AT_MOST * seconds
        self.ended = 0.0  # when the first caller found that it is over
        self.answers: list[list[Answer]] = [[] for _ in range(slots)]

    def run(self) -> None:
        """Ask until the time is over and every caller has got enough tokens; raises what asking raises."""
        with ThreadPoolExecutor(len(self.answers)) as pool:
            try:
                for done in as_completed([pool.submit(self._call, own) for own in self.answers]):
                    done.result()
            except BaseException:  # of one of them, or an interrupt: the others needn't go on
                self.ended = self.ended or time.perf_counter()
                raise

    def _call(self, own: list[Answer]) -> None:
        while not self._is_over():
            answer = Answer(time.perf_counter())
            own.append(answer)
            for _ in self._ask(prompt(self._next())):
                answer.tokens.append(time.perf_counter())
                if self._is_over():  # looked at after a token, so that the last first token is timed too
                    break

    def _next(self) -> int:
        with self._lock:
            return next(self._numbers)

    def _is_over(self) -> bool:
        now = time.perf_counter()
        if not self.ended and now >= self._until and (now >= self._limit or self._have_enough()):
            self.ended = now
        return bool(self.ended)

    def _have_enough(self) -> bool:
        return all(sum(len(answer.tokens) for answer in own) >= ENOUGH for own in self.answers)

    @property
    def rate(self) -> float:
        """Return tokens/s of all callers together."""
        tokens = [at for own in self.answers for answer in own for at in answer.tokens if at <= self.ended]
        return len(tokens) / (self.ended - self.started)

    @property
    def slowest(self) -> float:
        """Return tokens/s after the first token of the caller who got the fewest."""
        return min(_speed(own) for own in self.answers)

    @property
    def first_tokens(self) -> tuple[float, ...]:
        """Return the seconds from each request to its first token; an answer without a token has none."""
        return tuple(answer.tokens[0] - answer.asked for own in self.answers for answer in own if answer.tokens)


def _speed(own: list[Answer]) -> float:
    written = [answer.tokens for answer in own if len(answer.tokens) > 1]
    seconds = sum(tokens[-1] - tokens[0] for tokens in written)
    return sum(len(tokens) - 1 for tokens in written) / seconds if seconds else 0.0
