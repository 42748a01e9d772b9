"""What arrives when, and how long it is."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Length:
    """A length in tokens: mean and standard deviation of a lognormal, cut off at `longest`."""

    mean: float
    spread: float
    longest: float = math.inf

    def draw(self, count: int, random: np.random.Generator) -> Numbers:
        """Return as many lengths, whole and at least 1."""
        variance = math.log1p((self.spread / self.mean) ** 2)
        drawn = random.lognormal(math.log(self.mean) - variance / 2, math.sqrt(variance), count)
        return np.clip(np.round(drawn), 1, self.longest)

    def cut(self) -> float:
        """Return the share that is cut off, 0 to 1."""
        if not self.spread:
            return float(self.mean > self.longest)
        variance = math.log1p((self.spread / self.mean) ** 2)
        place = (math.log(self.longest) - math.log(self.mean) + variance / 2) / math.sqrt(2 * variance)
        return math.erfc(place) / 2


@dataclass(frozen=True)
class Measured:
    """Work as a load report has it: seconds on a pod of one's own, of which requests get theirs by lot."""

    seconds: Numbers

    def draw(self, count: int, random: np.random.Generator) -> Numbers:
        """Return as many of them."""
        return random.choice(self.seconds, count)


NO_PROMPT = Measured(np.zeros(1))


@dataclass(frozen=True)
class Trace:
    """Requests in the order of their arrival: seconds since the start, tokens of prompt and of answer."""

    arrivals: Numbers
    prompts: Numbers
    answers: Numbers


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Poisson arrivals, `rate` a second, each with lengths of its own."""

    rate: float
    prompt: Length | Measured
    answer: Length | Measured

    def trace(self, count: int, seed: int) -> Trace:
        """Return the same `count` requests for the same seed."""
        random = np.random.default_rng(seed)
        arrivals = np.cumsum(random.exponential(1 / self.rate, count))
        return Trace(arrivals, self.prompt.draw(count, random), self.answer.draw(count, random))
