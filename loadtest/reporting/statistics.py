"""Percentiles, shares and differences with their 95 % intervals.

Requests that follow each other meet the same queue, so the bootstrap resamples blocks of them, in their order in time:
resampled one by one, the intervals would be too narrow. The resamples are the same in every call.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES, AT_ONCE = 1000, 50
CI95 = (0.025, 0.975)
Z = 1.96  # standard deviations that 95 % of a normal distribution lie within
STUDENT = {6: 2.571}  # the same of a mean of so many values
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}

Values = NDArray[np.float64]
Statistic = Callable[[Values], Any]  # of each row
mean: Statistic = partial(np.mean, axis=-1)
p50: Statistic = partial(np.quantile, q=0.5, axis=-1)
p95: Statistic = partial(np.quantile, q=0.95, axis=-1)


class Interval(NamedTuple):
    """A figure and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def interval_text(values: Sequence[float], spec: str = ".1f", unit: str = "") -> str:
    """Return [value, low, high] as people read it; of a single measurement there is only the value."""
    value, low, high = (f"{each:{spec}}" for each in values)
    return f"{value}{unit}" if len(set(values)) == 1 else f"{value}{unit} ({low} to {high})"


def summarise(values: Sequence[float]) -> dict[str, list[float] | float] | None:
    """Return each percentile as [value, low, high], `max` and `mean`; None without values. Values in time's order."""
    if not values:
        return None
    data = np.asarray(values, dtype=float)
    shares = list(PERCENTILES.values())
    figures = [np.quantile(data, shares), *_bounds(bootstrap(data, lambda rows: np.quantile(rows, shares, axis=-1)))]
    table: dict[str, list[float] | float] = {
        name: [rounded(each) for each in of] for name, of in zip(PERCENTILES, zip(*figures, strict=True), strict=True)
    }
    return table | {"max": rounded(data.max()), "mean": rounded(data.mean())}


def median(values: Sequence[float], digits: int = 3) -> list[float]:
    """Return [median, low, high]. Values in time's order."""
    data = np.asarray(values, dtype=float)
    return [round(float(each), digits) for each in (np.median(data), *_bounds(bootstrap(data, p50)))]


def difference(a: Values, b: Values, statistic: Statistic) -> Interval:
    """Return the statistic of b less that of a. Both in time's order."""
    resampled = bootstrap(b, statistic, seed=2) - bootstrap(a, statistic, seed=1)
    return Interval(float(statistic(b) - statistic(a)), *_bounds(resampled))


def ratio(a: Values, b: Values, statistic: Statistic) -> Interval:
    """Return the statistic of a as a multiple of that of b. Both in time's order."""
    resampled = bootstrap(a, statistic, seed=0) / bootstrap(b, statistic, seed=1)
    return Interval(float(statistic(a) / statistic(b)), *_bounds(resampled))


def bootstrap(values: Values, statistic: Statistic, seed: int = 0) -> Values:
    """Return the statistic of each resample."""
    return np.concatenate([statistic(values[rows]) for rows in resamples(len(values), seed)], axis=-1)


def resamples(count: int, seed: int = 0) -> Iterator[NDArray[np.intp]]:
    """Yield RESAMPLES samples of `count` indices, a row each, in blocks of the cube root of `count`, round the end."""
    generator = np.random.default_rng(seed)
    block = max(1, round(count ** (1 / 3)))
    for _ in range(RESAMPLES // AT_ONCE):
        starts = generator.integers(0, count, (AT_ONCE, -(-count // block), 1))
        yield ((starts + np.arange(block)) % count).reshape(AT_ONCE, -1)[:, :count]


def student(values: Sequence[float]) -> Interval:
    """Return the mean of independent values, none of which is negative, with Student's interval."""
    value = statistics.fmean(values)
    reach = STUDENT[len(values)] * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return Interval(value, max(0.0, value - reach), value + reach)


def wilson(right: int, asked: int) -> Interval:
    """Return a share, 0 to 1, with Wilson's interval, which holds for few answers too, and at 0 and 1."""
    if not asked:
        return Interval(0.0, 0.0, 1.0)
    share, z2 = right / asked, Z * Z / asked
    middle = (share + z2 / 2) / (1 + z2)
    half = Z * math.sqrt(share * (1 - share) / asked + z2 / (4 * asked)) / (1 + z2)
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def mcnemar_p(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Return how likely a difference as large as that between a and b, asked the same, is by chance alone.

    McNemar's exact test, two-sided: only questions count that one of them has right and the other wrong.
    """
    ahead = sum(x and not y for x, y in zip(a, b, strict=True))
    behind = sum(y and not x for x, y in zip(a, b, strict=True))
    differing = ahead + behind
    tail = sum(math.comb(differing, k) for k in range(min(ahead, behind) + 1))
    return min(1.0, 2.0 * tail / 2.0**differing)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of the values that `share` of them don't exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def rounded(seconds: float) -> float:
    """Return a time to the tenth of a millisecond: more digits are noise."""
    return round(float(seconds), 4)


def _bounds(resampled: Values) -> Values:
    return np.quantile(resampled, CI95, axis=-1)
