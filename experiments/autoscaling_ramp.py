"""The report of the ramp while KEDA scales."""

from pathlib import Path

from experiments import pages
from experiments.autoscaling_arms import LEAST, MOST, Outcome
from experiments.autoscaling_figures import busy_seconds, integral, new_pods
from experiments.autoscaling_plots import over_time
from experiments.autoscaling_report import Report, add_traces, targets_table
from loadtest.scenarios import SCENARIOS

KEPT = (
    "scenario",
    "seconds",
    "settings",
    "counts",
    "answered_share",
    "throughput",
    "goodput",
    "slo_s",
    "latency_s",
)
ABOUT = (
    f"The predecessor’s ramp in its own time ({SCENARIOS['ramp'].describe()}; up to 3 retries, 90 s an attempt), 12 s "
    f"of service, with KEDA between {LEAST} and {MOST} pods."
)


def write_ramp(report: Report, outcome: Outcome, out: Path) -> bool:
    """Write the report and return whether everybody was answered."""
    run, seen = outcome.report, outcome.seen
    end = outcome.began + run["seconds"]
    samples = [sample for sample in seen.samples if outcome.began <= sample.at <= end]
    report |= {name: run[name] for name in KEPT}
    report["pods_at_most"] = max(sample.ready for sample in samples)
    report["pod_seconds"] = round(integral(samples, lambda sample: sample.pods))
    report["busy_pod_seconds"] = round(busy_seconds(seen.lines, outcome.began, end))
    report["new_pods"] = new_pods(seen.pods, seen.lines, outcome.began)
    share, what = run["answered_share"], "answered, at once or when told to come"
    report["targets"] = [{"what": what, "limit": ">=1", "value": share, "kept": share == 1}]
    add_traces(report, {"requests": outcome})
    figures = {"over-time": over_time({"requests": outcome})}
    pages.write(report, about=[ABOUT], tables=tables(report), figures=figures, out=out)
    return bool(report["targets"][0]["kept"])


def tables(report: Report) -> list[list[pages.Row]]:
    """Return the figures, and the target."""
    counts, seconds = report["counts"], report["seconds"]
    rows: list[pages.Row] = [
        ["", ""],
        ["questions", str(counts["requests"])],
        ["answered", f"{counts['answered']}: {100 * report['answered_share']:.2f} %"],
        ["of these after a refusal that said when to come", str(counts["answered_after_retry"])],
        ["refusals", f"{counts['refusals']} of {counts['attempts']} attempts"],
        ["throughput, answers/min", f"{60 * report['throughput']:.1f}"],
    ]
    for name in ("p50", "p95"):
        rows.append([f"{name}, s (95 % interval)", "{:.1f} ({:.1f} to {:.1f})".format(*report["latency_s"][name])])
    paid = f"{report['pod_seconds']}, of these busy {report['busy_pod_seconds']}"
    rows.append(["pods", f"{LEAST} to {report['pods_at_most']}"])
    rows.append(["pod-seconds paid for", f"{paid}; {MOST} fixed pods: {MOST * seconds:.0f}"])
    return [rows, targets_table(report)]
