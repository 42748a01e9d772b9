"""How far a figure can be trusted: of a share, of a median, and of a difference between two models."""

import math
from collections.abc import Sequence

import numpy as np

Z = 1.96  # 95 %
DRAWS = 1000
Interval = tuple[float, float]


def wilson(right: int, asked: int) -> Interval:
    """Return Wilson's interval of a share, 0 to 1, which holds for few answers too, and at 0 and 1."""
    if not asked:
        return 0.0, 1.0
    share, z2 = right / asked, Z * Z / asked
    middle = (share + z2 / 2) / (1 + z2)
    half = Z * math.sqrt(share * (1 - share) / asked + z2 / (4 * asked)) / (1 + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def median(values: Sequence[float], digits: int = 3) -> list[float]:
    """Return [median, low, high]: the interval by bootstrap, with the same draws in every call."""
    data = np.asarray(values, dtype=float)
    drawn = np.median(np.random.default_rng(0).choice(data, (DRAWS, len(data))), axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return [round(float(value), digits) for value in (np.median(data), low, high)]


def chance_of(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Return how likely a difference as large as that between a and b, asked the same, is by chance alone.

    McNemar's exact test, two-sided: only questions count that one of them has right and the other wrong.
    """
    ahead = sum(x and not y for x, y in zip(a, b, strict=True))
    behind = sum(y and not x for x, y in zip(a, b, strict=True))
    differing = ahead + behind
    tail = sum(math.comb(differing, k) for k in range(min(ahead, behind) + 1))
    return min(1.0, 2.0 * tail / 2.0**differing)
