"""Percentiles and differences with the interval that chance alone explains, by bootstrap.

Requests that follow each other meet the same queue, so they are drawn in blocks, in their order in time: drawn one by
one, the intervals would be too narrow. The draws are the same in every call.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS, AT_ONCE = 1000, 50
INSIDE = (0.025, 0.975)  # 95 %
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}

Values = NDArray[np.float64]
Interval = tuple[float, float]
Statistic = Callable[[Values], Values]  # of the last axis


def summarise(values: Sequence[float]) -> dict[str, list[float] | float] | None:
    """Return each percentile as [value, low, high], `max` and `mean`; None without values. Values in time's order."""
    if not values:
        return None
    data = np.asarray(values, dtype=float)
    shares = list(PERCENTILES.values())
    drawn = np.concatenate([np.quantile(data[each], shares, axis=-1) for each in draws(len(data))], axis=-1)
    points, (low, high) = np.quantile(data, shares), np.quantile(drawn, INSIDE, axis=-1)
    table: dict[str, list[float] | float] = {
        name: [rounded(points[i]), rounded(low[i]), rounded(high[i])] for i, name in enumerate(PERCENTILES)
    }
    return table | {"max": rounded(data.max()), "mean": rounded(data.mean())}


def difference(a: Values, b: Values, statistic: Statistic) -> tuple[float, Interval]:
    """Return the statistic of b less that of a, and the interval of that difference. Both in time's order."""
    pairs = zip(draws(len(a), seed=1), draws(len(b), seed=2), strict=True)
    drawn = np.concatenate([statistic(b[of_b]) - statistic(a[of_a]) for of_a, of_b in pairs])
    low, high = np.quantile(drawn, INSIDE)
    return float(statistic(b) - statistic(a)), (float(low), float(high))


def draws(count: int, seed: int = 0) -> Iterator[NDArray[np.intp]]:
    """Yield DRAWS samples of `count` indices, a row each, in blocks of the cube root of `count`, round the end."""
    generator = np.random.default_rng(seed)
    block = max(1, round(count ** (1 / 3)))
    for _ in range(DRAWS // AT_ONCE):
        starts = generator.integers(0, count, (AT_ONCE, -(-count // block), 1))
        yield ((starts + np.arange(block)) % count).reshape(AT_ONCE, -1)[:, :count]


def mean(values: Values) -> Values:
    """Return the mean of each row."""
    return np.asarray(np.mean(values, axis=-1))


def p50(values: Values) -> Values:
    """Return the median of each row."""
    return np.quantile(values, 0.5, axis=-1)


def p95(values: Values) -> Values:
    """Return what 95 % of each row don't exceed."""
    return np.quantile(values, 0.95, axis=-1)


def rounded(seconds: float) -> float:
    """Return a time to the tenth of a millisecond: more digits are noise."""
    return round(float(seconds), 4)
