"""Two reports side by side, or a run's last third and its first, and which differences are more than noise."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from command_line import InputError
from loadtest.reporting.document import Table, markdown
from loadtest.reporting.folder import Report
from loadtest.reporting.statistics import Interval, Statistic, Values, difference, mean, p50, p95
from loadtest.reporting.target import Target, new_target

TOLERANCE, DRIFT_TOLERANCE = 0.05, 0.1
BINS = 20  # of a run, in which answers are counted
ENOUGH = 8  # values, for a percentile's interval to mean anything


@dataclass(frozen=True)
class Comparison:
    """One figure of both reports. worse: 1 if more of it is worse, -1 if less is."""

    name: str
    a: float
    b: float
    difference: Interval
    worse: int
    tolerance: float  # a difference up to this share of a is none

    @classmethod
    def of(cls, name: str, a: Values, b: Values, statistic: Statistic, worse: int, tolerance: float) -> Self:
        """Compare a statistic of two series, both in time's order."""
        return cls(name, float(statistic(a)), float(statistic(b)), difference(a, b, statistic), worse, tolerance)

    @property
    def verdict(self) -> str:
        """Return `worse` or `better` where the interval holds no 0 and the difference is worth a word, else `same`."""
        change, low, high = self.difference
        if low <= 0 <= high or abs(change) <= self.tolerance * abs(self.a):
            return "same"
        return "worse" if change * self.worse > 0 else "better"


def compare(a: Report, b: Report, tolerance: float = TOLERANCE) -> list[Comparison]:
    """Return the figures of both, one by one. Raises InputError where they can't be compared."""
    _check(a, b)
    # Not one answer less is tolerated beyond noise: an answer is what was promised.
    found = [Comparison.of("answered share", _shares(a), _shares(b), mean, -1, 0)]
    for name, within in (("throughput, answers/s", False), ("goodput, answers/s", True)):
        found.append(_rate(name, a, b, within, tolerance))
    for name, of_a, of_b in (("whole answer", _took(a), _took(b)), ("first token", _ttft(a), _ttft(b))):
        if min(len(of_a), len(of_b)) >= ENOUGH:
            for share, statistic in (("p50", p50), ("p95", p95)):
                found.append(Comparison.of(f"{name} {share}, s", of_a, of_b, statistic, 1, tolerance))
    return found


def table(a: Report, b: Report, found: list[Comparison]) -> str:
    """Return the Markdown."""
    names = [f"{report['name']}, {report['started'][:16]}, {report['revision']}" for report in (a, b)]
    head = f"`{a['scenario']}` against {b['model']}: A is {names[0]}; B is {names[1]}."
    figures = {
        "": lambda each: each.name,
        "A": lambda each: f"{each.a:.4g}",
        "B": lambda each: f"{each.b:.4g}",
        "B − A (95 % interval)": lambda each: "{:+.3g} ({:+.3g} to {:+.3g})".format(*each.difference),
        "B is": lambda each: f"**{each.verdict}**" if each.verdict == "worse" else each.verdict,
    }
    return markdown([head, Table.rows_of(found, figures)])


def _check(a: Report, b: Report) -> None:
    for name, report in (("A", a), ("B", b)):
        if not report["valid"]:
            raise InputError(f"{name} is invalid: {'; '.join(report['invalid_because'])}")
    pairs = {name: (a[name], b[name]) for name in ("scenario", "model", "seconds")}
    kept = a["settings"].keys() | b["settings"].keys()
    pairs |= {name: (a["settings"].get(name), b["settings"].get(name)) for name in sorted(kept - {"api"})}
    differing = [
        f"{name} is {_text(of_a)} in A and {_text(of_b)} in B" for name, (of_a, of_b) in pairs.items() if of_a != of_b
    ]
    if differing:
        raise InputError(f"these runs can't be compared: {', '.join(differing)}")


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _rate(name: str, a: Report, b: Report, within: bool, tolerance: float) -> Comparison:
    """Compare answers a second, stretch by stretch: both runs had the same load in the same stretch."""
    of_a, of_b = answers_per_second(a, within), answers_per_second(b, within)
    change = difference(np.zeros(BINS), of_b - of_a, mean)
    return Comparison(name, float(mean(of_a)), float(mean(of_b)), change, -1, tolerance)


def _shares(report: Report) -> Values:
    return np.array([each[2] == "answered" for each in report["requests"]], dtype=float)


def _took(report: Report) -> Values:
    return np.array([each[1] for each in report["requests"] if each[2] == "answered"], dtype=float)


def _ttft(report: Report) -> Values:
    streams = (report["probe"] or {"streams": []})["streams"]
    return np.array([each[1] for each in streams if each[3] == "answered"], dtype=float)


def answers_per_second(report: Report, within: bool = False) -> Values:
    """Return the answers a second in each of BINS equal stretches of a run. within: only those in time for the SLO."""
    answered = [each for each in report["requests"] if each[2] == "answered"]
    ends = [each[0] + each[1] for each in answered if not within or each[1] <= report["slo_s"]]
    counts, _ = np.histogram(ends, bins=BINS, range=(0, report["seconds"]))
    return np.asarray(counts * BINS / report["seconds"], dtype=float)


def drift(report: Report) -> Iterator[Comparison]:
    """Yield latency, success and memory of the first and the last third, one by one."""
    requests, samples = report["requests"], report["samples"]
    answered = [(each[0], float(each[2] == "answered")) for each in requests]
    took = [(each[0], each[1]) for each in requests if each[2] == "answered"]
    series = [("answered share", answered, mean, -1, 0.0), ("whole answer p50, s", took, p50, 1, DRIFT_TOLERANCE)]
    for container in sorted({name for sample in samples for name in sample["memory_mib"]}):
        used = [(each["at"], each["memory_mib"][container]) for each in samples if each["memory_mib"].get(container)]
        series.append((f"memory of {container}, MiB", used, mean, 1, DRIFT_TOLERANCE))
    for name, pairs, statistic, worse, tolerance in series:
        first, last = _thirds(pairs, report["seconds"])
        if min(len(first), len(last)) >= ENOUGH:
            yield Comparison.of(name, first, last, statistic, worse, tolerance)


def drift_targets(report: Report) -> Iterator[Target]:
    """Yield the same as targets of the report: nothing may get worse by more than noise and a tenth."""
    for each in drift(report):
        value, limit = round(each.difference.value, 4), f"no worse than noise and {100 * each.tolerance:g} %"
        yield new_target(f"{each.name}, last third less the first", value, limit, each.verdict != "worse")


def _thirds(pairs: list[tuple[float, float]], seconds: float) -> tuple[Values, Values]:
    times, values = np.array(pairs, dtype=float).reshape(-1, 2).T
    return values[times < seconds / 3], values[(times >= seconds * 2 / 3) & (times < seconds)]
