"""Is a share of answers as small as it should be? Wald's sequential probability ratio test, and what it can find.

Of all tests with the same error rates it needs the fewest answers on average, whether the release is good or bad (Wald
and Wolfowitz, The Annals of Mathematical Statistics 19, 1948), and it ends for good releases too. A test that is valid
at any time, such as a mixture's (Robbins 1970), only ever ends for bad ones: a merge would always wait for the whole
time. The bounds are Wald's (Sequential Analysis, 1947), which keep both error rates within those that are asked for,
nearly: characteristics() gives what they are.
"""

import math
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a test says of a release; OPEN: there aren't enough answers to say it."""

    GOOD = "good"
    BAD = "bad"
    OPEN = "open"


@dataclass(frozen=True)
class Question:
    """Which of two shares do hits have among all answers: `good` or less, or `bad` or more?

    false_alarm: the probability to call `good` bad; missed: to call `bad` good. All within 0 and 1.
    """

    good: float
    bad: float
    false_alarm: float
    missed: float

    @property
    def steps(self) -> tuple[float, float]:
        """Return what a hit, and what any other answer, adds to the logarithm of the likelihoods' ratio."""
        return math.log(self.bad / self.good), math.log((1 - self.bad) / (1 - self.good))

    def verdict(self, hits: int, seen: int) -> Verdict:
        """Return what so many hits among so many answers say, if none of the earlier ones has ended the test."""
        hit, other = self.steps
        ratio = hits * hit + (seen - hits) * other
        if ratio >= math.log((1 - self.missed) / self.false_alarm):
            return Verdict.BAD
        return Verdict.GOOD if ratio <= math.log(self.missed / (1 - self.false_alarm)) else Verdict.OPEN


@dataclass
class Sequence:
    """A question and the answers so far.

    A bad verdict stays, whatever comes afterwards. After a good one the test begins anew, so that it finds what gets
    worse later.
    """

    question: Question
    hits: int = 0
    seen: int = 0
    verdict: Verdict = Verdict.OPEN
    _began: tuple[int, int] = (0, 0)  # hits and answers before the test that runs

    def observe(self, hit: bool) -> None:
        """Count another answer."""
        self.hits, self.seen = self.hits + hit, self.seen + 1
        if self.verdict is Verdict.BAD:
            return
        said = self.question.verdict(self.hits - self._began[0], self.seen - self._began[1])
        if said is Verdict.GOOD:
            self._began = self.hits, self.seen
        if said is not Verdict.OPEN:
            self.verdict = said


@dataclass(frozen=True)
class Characteristics:
    """What a test does if hits have one share in truth: the probabilities of its verdicts, and its mean length."""

    bad: float
    good: float
    open: float
    answers: float


def characteristics(question: Question, share: float, most: int) -> Characteristics:
    """Return what the test does with `share` of hits and at most so many answers: exactly, not by simulation."""
    ends, answers = dict.fromkeys(Verdict, 0.0), 0.0
    running = {0: 1.0}  # the probability of each number of hits, if the test still runs
    for seen in range(1, most + 1):
        answers += sum(running.values())
        after: dict[int, float] = {}
        for hits, probability in running.items():
            for more, chance in ((1, share), (0, 1 - share)):
                verdict = question.verdict(hits + more, seen)
                if verdict is Verdict.OPEN:
                    after[hits + more] = after.get(hits + more, 0.0) + probability * chance
                else:
                    ends[verdict] += probability * chance
        running = after
    return Characteristics(ends[Verdict.BAD], ends[Verdict.GOOD], sum(running.values()), answers)


def at_most(hits: int, seen: int, confidence: float = 0.95) -> float:
    """Return the largest share of hits that so many among so many answers leave possible (Clopper and Pearson, 1934).

    For a number of answers that is fixed: here when the time is over, not when the test has ended.
    """
    if hits >= seen:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if _no_more(hits, seen, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _no_more(hits: int, seen: int, share: float) -> float:
    """Return the probability of so many hits or fewer."""
    return sum(math.comb(seen, k) * share**k * (1 - share) ** (seen - k) for k in range(hits + 1))
