"""What the reports of the autoscaling experiments have in common."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments import pages
from experiments.autoscaling_arms import Outcome
from experiments.facts import facts
from experiments.stages import SECONDS, VARIATION

Report = dict[str, Any]


def new_report(name: str, arguments: Sequence[str], *, seconds: float, cpus: float = 0) -> Report:
    """Return a report with what it says of how it was made.

    seconds: the mean service time. cpus: what a generation uses.
    """
    report = {"format": 1, "experiment": "autoscaling", "name": name}
    report |= facts(["autoscaling", *arguments], scale=seconds / SECONDS)
    does = f"uses {cpus:g} of a CPU, where a generation takes all CPUs that its pod has" if cpus else "sleeps"
    report["simulated"] = (
        f"the engine: a stand-in for Ollama takes {seconds:g} s on average (lognormal, deviation {VARIATION:g} of the "
        f"mean, at most 3 x the mean, drawn from the prompt), one slot a pod; while it generates it {does}; no node "
        "has to start, and no image to be pulled"
    )
    report["real"] = f"{report['real']}; HorizontalPodAutoscaler, metrics-server (every 15 s) and KEDA among them"
    return report


def targets_table(report: Report) -> list[pages.Row]:
    """Return the table of a report's targets."""
    rows: list[pages.Row] = [["target", "limit", "measured", ""]]
    for each in report["targets"]:
        rows.append([each["what"], each["limit"], text(each["value"]), "met" if each["kept"] else "**missed**"])
    return rows


def add_traces(report: Report, outcomes: Mapping[str, Outcome]) -> None:
    """Add what the plots show: requests as in a report of loadtest/, and the looks at the cluster."""
    for name, outcome in outcomes.items():
        report[f"requests_{name}"] = outcome.report["requests"]
        report[f"samples_{name}"] = [
            [round(each.at - outcome.began, 1), each.wanted, each.pods, each.ready, each.queued, each.in_flight]
            for each in outcome.seen.samples
        ]


def text(value: Any) -> str:
    """Return a figure as a table has it; a list is a value with its interval."""
    if value is None:
        return "never"
    if isinstance(value, list):
        return "{:.1f} ({:.1f} to {:.1f})".format(*value)
    return f"{value:g}" if isinstance(value, float) else str(value)
