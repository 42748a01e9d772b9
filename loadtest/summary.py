"""What the report of a run shows: how it went, the figures with their 95 % intervals, and how it was made."""

import math
from collections.abc import Iterator

from loadtest.plots import plots
from loadtest.reporting.document import Block, Table
from loadtest.reporting.folder import Report
from loadtest.reporting.target import all_passed

NOT_ANSWERED = {
    "refused": "refused at the last attempt",
    "timeout": "timed out",
    "error": "failed",
    "bad_answer": "answered with nothing, or with half an answer",
}


def blocks(report: Report) -> Iterator[Block]:
    """Yield the blocks of the report."""
    yield verdict(report)
    where = [f"{report['model']} at {report['target']}", *(report[n] for n in ("stage", "node", "digest") if report[n])]
    how = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in report["settings"].items())
    yield f"`{report['scenario']}` for {report['seconds']:g} s against {', '.join(where)}; {how}."
    yield Table([["", "(95 % interval)"], *rows(report)])
    yield from plots(report)


def verdict(report: Report) -> str:
    """Return what came of it in a sentence."""
    if not report["valid"]:
        return f"**Invalid**: {'; '.join(report['invalid_because'])}."
    if all_passed(report["targets"]):
        return "Every target was met."
    missed = ["{what} is {value:g}, not {limit}".format(**each) for each in report["targets"] if not each["passed"]]
    return f"**Missed**: {'; '.join(missed)}."


def rows(report: Report) -> list[tuple[str, str]]:
    """Return the figures, each with its name."""
    counts = report["counts"]
    failed = ", ".join(f"{counts[name]} {text}" for name, text in NOT_ANSWERED.items() if counts[name])
    return [
        ("questions", str(counts["requests"])),
        ("answered", f"{counts['answered']}: {100 * report['answered_share']:.2f} %"),
        ("of these after a retry", str(counts["answered_after_retry"])),
        ("not answered", failed or "none"),
        ("refusals with Retry-After", f"{counts['refusals']} of {counts['attempts']} attempts"),
        ("throughput", f"{report['throughput']:.3f} answers/s"),
        (f"goodput: within {report['slo_s']:g} s", f"{report['goodput']:.3f} answers/s"),
        *_times("time to the whole answer, retries included", report["latency_s"]),
        *_times("time to first token (the probe)", report["ttft_s"]),
        *_times("time between tokens (the probe)", report["itl_s"]),
    ]


def _times(name: str, table: dict[str, list[float]] | None) -> list[tuple[str, str]]:
    return [(f"{name}, {key}", _time(table[key])) for key in ("p50", "p95", "p99")] if table else []


def _time(values: list[float]) -> str:
    """Return an interval to three digits, in milliseconds below a second."""
    unit, scale = ("ms", 1000) if values[0] < 1 else ("s", 1)
    digits = [max(0, 2 - math.floor(math.log10(max(each * scale, 0.01)))) for each in values]
    value, low, high = (f"{each * scale:.{of}f}" for each, of in zip(values, digits, strict=True))
    return f"{value} {unit} ({low} to {high})"
