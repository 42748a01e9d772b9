"""The report of the balancing experiment: figures, tables and plot."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from loadtest.balancing.systems import System
from loadtest.balancing.trace import PATIENCE, PHASES, Question
from loadtest.comparison.report import answered
from loadtest.reporting.document import Block, Plot, Table, cell
from loadtest.reporting.figures import BLUE, GREEN, PURPLE, RED, YELLOW, answered_within, new_figure, svg
from loadtest.reporting.folder import Report, publish
from loadtest.reporting.statistics import summarise
from loadtest.reporting.target import Target, at_least, at_most

TITLES = {
    "random": "connection-random (kube-proxy)",
    "least": "least outstanding, no queue",
    "shared": "shared queue (Sluice)",
    "killed": "shared queue, HAProxies killed",
    "churn": "shared queue, pods come and go",
}
COLOURS = {"random": RED, "least": YELLOW, "shared": GREEN, "killed": BLUE, "churn": PURPLE}
CLEARLY = 1.11  # another way is clearly better when the shared queue's 95th percentile is more than this times its own


def write(report: Report, systems: Sequence[System], *, out: Path) -> int:
    """Write the folder, and return 0 unless another way to balance is clearly better, or a question is lost."""
    report["runs"] = [figures(system) for system in systems]
    add_ratios(report["runs"])
    report["targets"] = list(targets(report["runs"]))
    return publish(report, blocks(report), out)


def add_ratios(runs: Sequence[Report]) -> None:
    """Add to each run the shared queue's 95th percentile as a multiple of its own."""
    shared = {run["replicas"]: run["latency_s"] for run in runs if run["system"] == "shared"}
    for run in runs:
        ours, theirs = shared[run["replicas"]], run["latency_s"]
        run["shared_queue_p95"] = round(ours["p95"][0] / theirs["p95"][0], 4) if ours and theirs else None


def targets(runs: Sequence[Report]) -> Iterator[Target]:
    """Yield that no other way is clearly better than the shared queue, and that this loses no question."""
    for run in runs:
        name = f"{TITLES[run['system']]}, {run['replicas']} pods"
        if run["system"] in ("random", "least"):
            yield at_most(f"p95 of the shared queue compared with {name}", run["shared_queue_p95"] or 0, CLEARLY)
        else:
            yield at_least(f"answered by {name}", run["answered_share"], 1)


def figures(system: System) -> Report:
    """Return what there is to say of a system's run. Times in seconds from its start, which is the trace's."""
    questions, idle = system.questions, system.idle()
    counts = Counter(question.outcome for question in questions)
    answers = [question for question in questions if question.outcome == "answered"]
    timely = [each for each in answers if each.attempts[-1].ended - system.started <= system.seconds]
    return {
        "system": system.name,
        "replicas": system.replicas,
        "counts": {"requests": len(questions), **counts, "attempts": sum(len(q.attempts) for q in questions)},
        "answered_after_retry": sum(len(each.attempts) > 1 for each in answers),
        "answered_share": round(counts["answered"] / len(questions), 4),
        "throughput": round(len(timely) / system.seconds, 4),
        "latency_s": summarise([each.took for each in answers]),
        "waiting_s": round(idle.waiting, 1),
        "idle_while_waiting_s": round(idle.idle, 1),
        "lost_pod_seconds": round(idle.lost, 1),
        "seconds": round(system.ended - system.started, 1),
        "events": [[round(at - system.started, 1), what] for at, what in system.events],
        "requests": [_request(question, system.started) for question in questions],
    }


def _request(question: Question, started: float) -> list[Any]:
    sent = question.attempts[0].sent - started
    return [round(sent, 2), round(question.took, 3), question.outcome, len(question.attempts)]


def blocks(report: Report) -> Iterator[Block]:
    """Yield the blocks of the report."""
    phases = ", ".join(f"{seconds} s at {load:g} ×" for seconds, load in PHASES)
    yield (
        f"One trace of Poisson arrivals ({phases} of what the pods can do; times × {report['time_scale']:g}), each "
        f"question on a connection of its own, up to 3 retries, {PATIENCE:g} s an attempt, to three ways to pick a pod "
        "at the same time, and then to the shared queue under injected failures. The gateway pods are the same "
        "everywhere; without HAProxy's queue, each pod's own queue takes 64 requests. Idle: a pod had nothing to do "
        "while a request waited elsewhere. Lost: the pods that were idle then, at most one for each waiting request, × "
        "time."
    )
    by_count = groupby(report["runs"], key=lambda run: run["replicas"])
    panels = {f"{count} pods": list(runs) for count, runs in by_count}
    yield from (table(title, runs) for title, runs in panels.items())
    events = [(f"{at:.0f}", f"{TITLES[run['system']]}: {what}") for run in report["runs"] for at, what in run["events"]]
    yield Table([("at, s", "what was done"), *events])
    yield Plot(svg(plot(panels)), file="shares")


def table(title: str, runs: Sequence[Report]) -> Table:
    """Return the systems of one number of pods side by side."""
    figures = {
        "answered": answered,
        "after a retry": cell("answered_after_retry"),
        "throughput, answers/min": cell("throughput", spec=".1f", scale=60),
        "p50, s (95 % interval)": cell("latency_s", "p50"),
        "p95, s (95 % interval)": cell("latency_s", "p95"),
        "shared queue’s p95 ÷ this": cell("shared_queue_p95", spec=".2f", unit=" ×"),
        "a request waited, s": cell("waiting_s", spec=".0f"),
        "idle meanwhile, s": cell("idle_while_waiting_s", spec=".1f"),
        "lost, pod-seconds": cell("lost_pod_seconds", spec=".1f"),
    }
    return Table.columns_of(title, {TITLES[run["system"]]: run for run in runs}, figures)


def plot(panels: Mapping[str, Sequence[Report]]) -> Figure:
    """Return the share of questions answered within a time, a panel for each number of pods."""
    figure, grid = new_figure(9, 3.2, columns=len(panels), squeeze=False)
    for axes, (title, runs) in zip(grid[0], panels.items(), strict=True):
        shown = [(TITLES[run["system"]], COLOURS[run["system"]], run["requests"]) for run in runs]
        answered_within(axes, shown)
        axes.set_title(title, fontsize=9)
    return figure
