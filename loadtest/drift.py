"""Whether a long run ended as it began: the last third of it beside the first."""

from collections.abc import Iterator

import numpy as np

from loadtest.compare import Row
from loadtest.intervals import Values, difference, mean, p50
from loadtest.report import Report

TOLERANCE = 0.1
ENOUGH = 8  # values in a third


def drift(report: Report) -> list[Row]:
    """Return latency, success and memory of the first and the last third, one by one."""
    return list(_rows(report))


def thresholds(report: Report) -> list[dict[str, object]]:
    """Return the same as thresholds of the report: nothing may get worse by more than noise and a tenth."""
    return [
        {
            "what": f"{row.name}, last third less the first",
            "limit": f"no worse than noise and {100 * row.tolerance:g} %",
            "value": round(row.difference, 4),
            "kept": row.verdict != "worse",
        }
        for row in drift(report)
    ]


def _rows(report: Report) -> Iterator[Row]:
    seconds, requests, samples = report["seconds"], report["requests"], report["samples"]
    answered = [(each[0], float(each[2] == "answered")) for each in requests]
    took = [(each[0], each[1]) for each in requests if each[2] == "answered"]
    series = [("answered share", answered, -1, 0.0), ("whole answer p50, s", took, 1, TOLERANCE)]
    for container in sorted({name for sample in samples for name in sample["memory_mib"]}):
        used = [(sample["at"], sample["memory_mib"].get(container, np.nan)) for sample in samples]
        series.append((f"memory of {container}, MiB", [pair for pair in used if pair[1] > 0], 1, TOLERANCE))
    for name, pairs, worse, tolerance in series:
        first, last = _thirds(pairs, seconds)
        if min(len(first), len(last)) >= ENOUGH:
            statistic = p50 if "p50" in name else mean
            change, interval = difference(first, last, statistic)
            yield Row(name, float(statistic(first)), float(statistic(last)), change, interval, worse, tolerance)


def _thirds(pairs: list[tuple[float, float]], seconds: float) -> tuple[Values, Values]:
    times, values = np.array(pairs, dtype=float).reshape(-1, 2).T
    return values[times < seconds / 3], values[(times >= seconds * 2 / 3) & (times < seconds)]
