"""What is wanted of a setting, and which of two is better."""

from dataclasses import dataclass

from tuning.measured import Measured

# Two looks at the same setting differ by as much: a setting must be better by more, or the one before it stays.
NOISE = 1.05
HOPELESS = 0.85  # of the best one's figure after the first look: no second look turns that round


@dataclass(frozen=True, kw_only=True)
class Slo:
    """What each caller gets: seconds to the first token at most, of 95 %, and tokens/s after it at least."""

    first_token: float
    tokens: float

    def closeness(self, found: Measured) -> float:
        """Return how near a setting comes: 1 where it meets the SLO, 0.5 where it is off by a factor of 2."""
        first = self.first_token / found.p95_first_token if found.p95_first_token else 1.0
        return min(1.0, first, found.slowest / self.tokens)

    def met_by(self, found: Measured) -> bool:
        """Say whether a setting keeps it."""
        return self.closeness(found) == 1.0

    def better(self, found: Measured, best: Measured) -> bool:
        """Say whether a setting is better than the best so far by more than noise.

        That is more tokens/s where both meet the SLO, and else what comes closer to it.
        """
        near, nearest = self.closeness(found), self.closeness(best)
        if (near == 1.0) != (nearest == 1.0):
            return near == 1.0
        return found.rate > NOISE * best.rate if near == 1.0 else near > NOISE * nearest

    def hopeless(self, found: Measured, best: Measured) -> bool:
        """Say whether a setting is so far behind that a second look is a waste of time."""
        near, nearest = self.closeness(found), self.closeness(best)
        if near < HOPELESS * nearest:
            return True
        return nearest == 1.0 and found.rate < HOPELESS * best.rate

    def rank(self, found: Measured) -> tuple[float, float]:
        """Return a key that is larger for what is better, noise included."""
        return self.closeness(found), found.rate
