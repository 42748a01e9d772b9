"""Sluice's figures in the real ramp next to those of another system, each with the interval that chance leaves."""

from collections.abc import Mapping

import numpy as np

from experiments.comparison_report import SLUICE
from loadtest.intervals import INSIDE, Values, draws
from loadtest.report import Report

Systems = Mapping[str, Report]  # by their names, as real_ramp_report.together() returns them


def throughput_interval(systems: Systems, other: str) -> tuple[float, float]:
    """Return the 95 % interval of the ratio of answers, by bootstrap.

    Drawn are stretches of the ramp, the same of both systems: in the same stretch both had the same load.
    """
    ours, theirs = (np.concatenate(systems[name]["stretches"]) for name in (SLUICE, other))
    rows = np.concatenate(list(draws(len(ours))))
    sums = theirs[rows].sum(axis=-1)
    ratios = ours[rows].sum(axis=-1)[sums > 0] / sums[sums > 0]
    low, high = np.quantile(ratios, INSIDE)
    return float(low), float(high)


def wait_ratio(systems: Systems, other: str) -> float:
    """Return the ratio of the 95th percentiles of the wait, of all questions.

    The wait of a question that was never answered lasts until its user gave up. Left out, it would make the system
    look best that answers nobody but the first in its queue.
    """
    ours, theirs = (np.quantile(waits(systems[name]), 0.95) for name in (SLUICE, other))
    return round(float(ours / theirs), 3)


def wait_interval(systems: Systems, other: str) -> tuple[float, float]:
    """Return the 95 % interval of that ratio, by bootstrap."""
    drawn = []
    for seed, name in enumerate((SLUICE, other)):
        took = waits(systems[name])
        drawn.append(np.concatenate([np.quantile(took[rows], 0.95, axis=-1) for rows in draws(len(took), seed)]))
    low, high = np.quantile(drawn[0] / drawn[1], INSIDE)
    return float(low), float(high)


def waits(system: Report) -> Values:
    """Return the seconds from each question to its answer, or until its user gave up."""
    return np.array([took for _, took, _, _ in system["requests"]], dtype=float)
