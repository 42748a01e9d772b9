"""One break under an honest load: what callers saw, how long until all was normal, and what was lost."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from chaos.callers import ANSWERED, UNTOLD, Load, Outcome, seconds_until_answer, seconds_until_normal
from chaos.callers import words as counts
from launcher.console import Problem, say
from loadtest.reporting.statistics import percentile

HEAD = ["what was broken", "what callers saw", "next answer", "all normal", "lost"]
NEVER = "**never**"
RATE = 4.0  # honest requests a second
BEFORE, CALM, LIMIT = 2.0, 3.0, 90.0  # seconds: before the break, of normal answers that end it, and at most


@dataclass(frozen=True)
class Seen:
    """What was seen of a break. mended: when what had broken was there again, or could come back by itself."""

    name: str
    outcomes: list[Outcome]
    mended: float

    @property
    def lost(self) -> str:
        """Return what callers never heard of."""
        found = [(kind, sum(each.kind == kind for each in self.outcomes)) for kind in UNTOLD]
        return ", ".join(f"{count} {kind}" for kind, count in found if count) or "nothing"

    def row(self) -> list[str]:
        """Return the line of the table."""
        times = [each.took for each in self.outcomes if each.kind == ANSWERED]
        slow = percentile(times, 0.95) if times else 0.0
        saw = f"{counts(self.outcomes)}; p95 of the answers {slow:.1f} s"
        until = [seconds_until_answer(self.outcomes, self.mended), seconds_until_normal(self.outcomes, self.mended)]
        return [self.name, saw, *(f"{each:.1f} s" if each is not None else NEVER for each in until), self.lost]


@dataclass(frozen=True)
class Skipped:
    """A break that this machine can't have."""

    name: str
    reason: str

    def row(self) -> list[str]:
        """Return the line of the table."""
        return [self.name, f"not tried: {self.reason}", "–", "–", "–"]


Observation = Seen | Skipped


def observe(
    name: str, url: str, breaks: Callable[[], None], *, rate: float = RATE, patience: float = 30, limit: float = LIMIT
) -> Observation:
    """Break something under load and return what was seen; `breaks` returns once it is mended, or on its way."""
    say(f"{name} …")
    calm = max(CALM, 3 / rate)
    with Load(url, rate, patience) as load:
        time.sleep(BEFORE)
        broken = time.monotonic()
        try:
            breaks()
        except (Problem, OSError) as problem:
            return Skipped(name, str(problem))
        mended = time.monotonic()
        time.sleep(calm)
        while not load.is_normal(calm) and time.monotonic() < mended + limit:
            time.sleep(0.2)
    seen = Seen(name, load.since(broken), mended)
    say(" | ".join(seen.row()))
    return seen
