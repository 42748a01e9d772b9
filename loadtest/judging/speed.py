"""Is a release slower than the live one? Compared where as many slots are busy, for those decide the engine's speed.

Times of answers are noisy, and those that follow each other are alike: they have the same neighbours in their pod. So
what is counted are medians of some in a row, not single times.
"""

import math
import statistics
from collections.abc import Sequence as Values
from dataclasses import dataclass, field

from loadtest.judging.record import Times
from loadtest.judging.sequential import Question, Sequence

SLOWDOWN = 1.3  # that must be found; half-way there, by its logarithm, is the limit
BLOCK = 5  # times in a row, of which the median counts
FEWEST = 10  # times of the live release with as many busy slots: with fewer, its median is a guess
# The live release's own medians may lie above the limit by chance: then the limit is what so many of them don't exceed.
USUAL = 0.75
PATIENCE = 20  # answers; if fewer than one in four of them could be compared by then, it isn't waited for more


@dataclass
class Speed:
    """A time of the new release as a multiple of the live one's. live: {} without a live release."""

    question: Question
    live: Times
    sequence: Sequence = field(init=False)
    limit: float = field(init=False)
    ratios: list[float] = field(default_factory=list)
    tried: int = 0  # answers, also those that couldn't be compared
    elsewhere: set[int] = field(default_factory=set)  # numbers of busy slots at which the live one isn't known

    def __post_init__(self) -> None:
        self.sequence = Sequence(self.question)
        self._usual = {slots: statistics.median(of) for slots, of in self.live.items() if len(of) >= FEWEST}
        own = [each / usual for slots, usual in self._usual.items() for each in _medians(self.live[slots])]
        self.limit = max(math.sqrt(SLOWDOWN), _quantile(own, USUAL))

    def observe(self, slots: int | None, seconds: float | None) -> None:
        """Count an answer; None: it has no such time."""
        self.tried += 1
        if slots is None or seconds is None:
            return
        if slots not in self._usual:
            self.elsewhere.add(slots)
            return
        self.ratios.append(seconds / self._usual[slots])
        if len(self.ratios) % BLOCK == 0:
            self.sequence.observe(statistics.median(self.ratios[-BLOCK:]) > self.limit)

    @property
    def incomparable(self) -> bool:
        """Say whether too little can be compared to wait for a verdict."""
        return not self._usual or (self.tried >= PATIENCE and 4 * len(self.ratios) < self.tried)

    @property
    def ratio(self) -> float:
        """Return the median of all."""
        return statistics.median(self.ratios)


def _medians(times: Values[float]) -> list[float]:
    return [statistics.median(times[start : start + BLOCK]) for start in range(len(times) - BLOCK + 1)]


def _quantile(values: Values[float], share: float) -> float:
    return sorted(values)[int(share * len(values))] if values else 0.0
