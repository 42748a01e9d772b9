"""Two reports side by side, and which of their differences are more than noise."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from command_line import InputError
from loadtest.intervals import Interval, Statistic, Values, difference, mean, p50, p95
from loadtest.report import Report

TOLERANCE = 0.05
BINS = 20  # of a run, in which answers are counted
ENOUGH = 8  # values, for a percentile's interval to mean anything


@dataclass(frozen=True)
class Row:
    """One figure of both reports. worse: 1 if more of it is worse, -1 if less is."""

    name: str
    a: float
    b: float
    difference: float
    interval: Interval
    worse: int
    tolerance: float  # a difference up to this share of a is none

    @property
    def verdict(self) -> str:
        """Return `worse` or `better` where the interval holds no 0 and the difference is worth a word, else `same`."""
        low, high = self.interval
        if low <= 0 <= high or abs(self.difference) <= self.tolerance * abs(self.a):
            return "same"
        return "worse" if self.difference * self.worse > 0 else "better"


def compare(a: Report, b: Report, tolerance: float = TOLERANCE) -> list[Row]:
    """Return the figures of both, one by one. Raises InputError where they can't be compared."""
    _check(a, b)
    return list(_rows(a, b, tolerance))


def table(a: Report, b: Report, rows: list[Row]) -> str:
    """Return the Markdown."""
    names = [f"{report['name']}, {report['started'][:16]}, {report['revision']}" for report in (a, b)]
    lines = [f"| {r.name} | {r.a:.4g} | {r.b:.4g} | {_signed(r)} | {_word(r)} |" for r in rows]
    head = f"`{a['scenario']}` against {b['model']}: A is {names[0]}; B is {names[1]}."
    return "\n".join([head, "", "| | A | B | B − A (95 % interval) | B is |", "|---|---|---|---|---|", *lines])


def _signed(row: Row) -> str:
    low, high = row.interval
    return f"{row.difference:+.3g} ({low:+.3g} to {high:+.3g})"


def _word(row: Row) -> str:
    return f"**{row.verdict}**" if row.verdict == "worse" else row.verdict


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


def _rows(a: Report, b: Report, tolerance: float) -> Iterator[Row]:
    def row(name: str, of: Callable[[Report], Values], statistic: Statistic, worse: int) -> Row:
        of_a, of_b = of(a), of(b)
        change, interval = difference(of_a, of_b, statistic)
        # Not one answer less is tolerated beyond noise: an answer is what was promised.
        allowed = 0 if of is _shares else tolerance
        return Row(name, float(statistic(of_a)), float(statistic(of_b)), change, interval, worse, allowed)

    yield row("answered share", _shares, mean, -1)
    for name, within in (("throughput, answers/s", False), ("goodput, answers/s", True)):
        yield _rate(name, a, b, within, tolerance)
    if min(len(_took(a)), len(_took(b))) >= ENOUGH:
        yield row("whole answer p50, s", _took, p50, 1)
        yield row("whole answer p95, s", _took, p95, 1)
    if min(len(_ttft(a)), len(_ttft(b))) >= ENOUGH:
        yield row("first token p50, s", _ttft, p50, 1)
        yield row("first token p95, s", _ttft, p95, 1)


def _rate(name: str, a: Report, b: Report, within: bool, tolerance: float) -> Row:
    """Compare answers a second, stretch by stretch: both runs had the same load in the same stretch."""
    of_a, of_b = _per_second(a, within), _per_second(b, within)
    change, interval = difference(np.zeros(BINS), of_b - of_a, mean)
    return Row(name, float(mean(of_a)), float(mean(of_b)), change, interval, -1, tolerance)


def _shares(report: Report) -> Values:
    return np.array([each[2] == "answered" for each in report["requests"]], dtype=float)


def _took(report: Report) -> Values:
    return np.array([each[1] for each in report["requests"] if each[2] == "answered"], dtype=float)


def _ttft(report: Report) -> Values:
    streams = (report["probe"] or {"streams": []})["streams"]
    return np.array([each[1] for each in streams if each[3] == "answered"], dtype=float)


def _per_second(report: Report, within: bool) -> Values:
    answered = [each for each in report["requests"] if each[2] == "answered"]
    ends = [each[0] + each[1] for each in answered if not within or each[1] <= report["slo_s"]]
    counts, _ = np.histogram(ends, bins=BINS, range=(0, report["seconds"]))
    return np.asarray(counts * BINS / report["seconds"], dtype=float)
