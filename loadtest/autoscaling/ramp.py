"""The report of the ramp while KEDA scales."""

from collections.abc import Iterator
from pathlib import Path

from loadtest.autoscaling.arms import LEAST, MOST, Outcome
from loadtest.autoscaling.figures import busy_seconds, integral, new_pods
from loadtest.autoscaling.report import add_traces, over_time
from loadtest.reporting.document import Block, Table
from loadtest.reporting.folder import Report, publish
from loadtest.reporting.statistics import interval_text
from loadtest.reporting.target import at_least
from loadtest.scenarios import SCENARIOS

TAKEN = ("scenario", "settings", "counts", "answered_share", "throughput", "goodput", "latency_s")
ABOUT = (
    f"The predecessor’s ramp in its own time ({SCENARIOS['ramp'].describe()}; up to 3 retries, 90 s an attempt), 12 s "
    f"of service, with KEDA between {LEAST} and {MOST} pods."
)


def write_ramp(report: Report, outcome: Outcome, out: Path) -> int:
    """Write the report, and return 0 if everybody was answered."""
    run, seen = outcome.report, outcome.seen
    end = outcome.began + run["seconds"]
    samples = [sample for sample in seen.samples if outcome.began <= sample.at <= end]
    report |= {name: run[name] for name in TAKEN}
    report["pods_at_most"] = max(sample.ready for sample in samples)
    report["pod_seconds"] = round(integral(samples, lambda sample: sample.pods))
    report["busy_pod_seconds"] = round(busy_seconds(seen.lines, outcome.began, end))
    report["new_pods"] = new_pods(seen.pods, seen.lines, outcome.began)
    report["targets"] = [at_least("answered, at once or after Retry-After", run["answered_share"], 1)]
    add_traces(report, {"requests": outcome})
    return publish(report, blocks(report), out)


def blocks(report: Report) -> Iterator[Block]:
    """Yield the blocks of the report."""
    counts, seconds = report["counts"], report["run_seconds"]
    yield ABOUT
    rows = {
        "questions": str(counts["requests"]),
        "answered": f"{counts['answered']}: {100 * report['answered_share']:.2f} %",
        "of these after a refusal with Retry-After": str(counts["answered_after_retry"]),
        "refusals": f"{counts['refusals']} of {counts['attempts']} attempts",
        "throughput, answers/min": f"{60 * report['throughput']:.1f}",
        "p50, s (95 % interval)": interval_text(report["latency_s"]["p50"]),
        "p95, s (95 % interval)": interval_text(report["latency_s"]["p95"]),
        "pods": f"{LEAST} to {report['pods_at_most']}",
        "pod-seconds paid for": f"{report['pod_seconds']}, of these busy {report['busy_pod_seconds']}; {MOST} fixed "
        f"pods: {MOST * seconds:.0f}",
    }
    yield Table([["", ""], *rows.items()])
    yield over_time(report, ["requests"])
