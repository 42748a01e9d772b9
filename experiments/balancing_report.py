"""The report of the balancing experiment: figures, tables and plot."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from experiments import pages
from experiments.trace import PATIENCE, PHASES, Question
from loadtest.intervals import summarise

if TYPE_CHECKING:
    from experiments.balancing import System

TITLES = {
    "random": "connection-random (kube-proxy)",
    "least": "least outstanding, no queue",
    "shared": "shared queue (Sluice)",
    "killed": "shared queue, HAProxies killed",
    "churn": "shared queue, pods come and go",
}
COLOURS = {"random": "#b5482a", "least": "#e0a526", "shared": "#2a7f62", "killed": "#2f5d8a", "churn": "#7b5ea7"}
CLEARLY = 0.9  # another way is clearly better when its 95th percentile is below this share of the shared queue's
Run = dict[str, Any]


def write(report: dict[str, Any], systems: Sequence["System"], *, out: Path) -> int:
    """Write the folder, and return 0 unless another way to balance is clearly better, or a question is lost."""
    return publish(report | {"runs": [figures(system) for system in systems]}, out=out)


def publish(report: dict[str, Any], *, out: Path) -> int:
    """Write the folder of figures that are there."""
    report["verdict"], good = verdict(report["runs"])
    counts = sorted({run["replicas"] for run in report["runs"]})
    by_count = [[run for run in report["runs"] if run["replicas"] == count] for count in counts]
    tables = [table(runs) for runs in by_count]
    events = [["at, s", "what was done"]]
    events += [
        [f"{at:.0f}", f"{TITLES[run['system']]}: {what}"] for run in report["runs"] for at, what in run["events"]
    ]
    figure = plot(by_count)
    pages.write(
        report, about=[about(report), report["verdict"]], tables=[*tables, events], figures={"shares": figure}, out=out
    )
    return 0 if good else 1


def figures(system: "System") -> Run:
    """Return what there is to say of a system's run. Times in seconds from its start, which is the trace's."""
    questions, idle = system.questions, system.idle()
    seconds, counts = system.ended - system.started, Counter(question.outcome for question in questions)
    timely = [
        q for q in questions if q.outcome == "answered" and q.attempts[-1].ended - system.started <= system.seconds
    ]
    answered = [question.took for question in questions if question.outcome == "answered"]
    return {
        "system": system.name,
        "replicas": system.replicas,
        "counts": {"requests": len(questions), **counts, "attempts": sum(len(q.attempts) for q in questions)},
        "answered_after_retry": sum(q.outcome == "answered" and len(q.attempts) > 1 for q in questions),
        "answered_share": round(counts["answered"] / len(questions), 4),
        "throughput": round(len(timely) / system.seconds, 4),
        "latency_s": summarise(answered),
        "waiting_s": round(idle.waiting, 1),
        "idle_while_waiting_s": round(idle.idle, 1),
        "lost_pod_seconds": round(idle.lost, 1),
        "seconds": round(seconds, 1),
        "events": [[round(at - system.started, 1), what] for at, what in system.events],
        "requests": [_request(question, system.started) for question in questions],
    }


def verdict(runs: Sequence[Run]) -> tuple[str, bool]:
    """Return in a sentence whether another way to balance won, and whether the shared queue did as it should."""
    others = [run for run in runs if run["system"] in ("random", "least")]
    better = [run for run in others if _p95(run) < CLEARLY * _p95(_shared(runs, run["replicas"]))]
    worse = [run for run in runs if run["system"] in ("shared", "killed", "churn") and run["answered_share"] < 1]
    if better:
        names = "; ".join(f"{TITLES[run['system']]} with {run['replicas']} pods" for run in better)
        return f"**ANOTHER WAY TO BALANCE IS CLEARLY BETTER than the shared queue: {names}.**", False
    if worse:
        lost = ", ".join(f"{TITLES[run['system']]} with {run['replicas']} pods" for run in worse)
        return f"No other way was clearly better, but the shared queue left questions unanswered: {lost}.", False
    return "No other way to balance was clearly better, and the shared queue left no question unanswered.", True


def about(report: dict[str, Any]) -> str:
    """Return what was measured, in a paragraph."""
    phases = ", ".join(f"{seconds} s at {load:g} ×" for seconds, load in PHASES)
    return (
        f"One trace of Poisson arrivals ({phases} of what the pods can do; times × {report['time_scale']:g}), each "
        f"question on a connection of its own, up to 3 retries, {PATIENCE:g} s an attempt, to three ways to pick a pod "
        "at the same time, and then to those that are hurt. The pods are the same gateway pods everywhere; where no "
        "HAProxy queues before them, their own queue takes 64. Idle: a pod had nothing to do while a request waited "
        "elsewhere; lost: pods idle then, as far as requests waited, × time."
    )


def table(runs: Sequence[Run]) -> list[pages.Row]:
    """Return the systems of one number of pods side by side."""
    rows: list[pages.Row] = [[f"{runs[0]['replicas']} pods", *(TITLES[run["system"]] for run in runs)]]
    rows.append(["answered", *(f"{100 * run['answered_share']:.1f} % of {run['counts']['requests']}" for run in runs)])
    rows.append(["after a retry", *(str(run["answered_after_retry"]) for run in runs)])
    rows.append(["throughput, answers/min", *(f"{60 * run['throughput']:.1f}" for run in runs)])
    for name in ("p50", "p95"):
        rows.append(
            [
                f"{name}, s (95 % interval)",
                *(_interval(run, name) for run in runs),
            ]
        )
    shared = _p95(_shared(runs, runs[0]["replicas"]))
    rows.append(["p95 of the shared queue beside it", *(f"{shared / _p95(run):.2f} ×" for run in runs)])
    rows.append(["a request waited, s", *(f"{run['waiting_s']:.0f}" for run in runs)])
    rows.append(["idle meanwhile, s", *(f"{run['idle_while_waiting_s']:.1f}" for run in runs)])
    rows.append(["lost, pod-seconds", *(f"{run['lost_pod_seconds']:.1f}" for run in runs)])
    return rows


def plot(by_count: Sequence[Sequence[Run]]) -> Figure:
    """Return the share of questions answered within a time, a panel for each number of pods."""
    figure, axes = pages.new_figure(9, 3.2, columns=len(by_count))
    for panel, runs in zip(np.atleast_1d(axes), by_count, strict=True):
        for run in runs:
            took = np.sort([each[1] for each in run["requests"] if each[2] == "answered"])
            percent = 100 * np.arange(1, len(took) + 1) / len(run["requests"])
            panel.step(took, percent, where="post", color=COLOURS[run["system"]], label=TITLES[run["system"]])
        panel.set(xlabel="within, s", ylabel="% of questions answered", xlim=(0, None), ylim=(0, 102))
        panel.set_title(f"{runs[0]['replicas']} pods", fontsize=9)
        panel.legend(frameon=False, fontsize=7, loc="lower right")
    return figure


def _shared(runs: Sequence[Run], replicas: int) -> Run:
    return next(run for run in runs if run["system"] == "shared" and run["replicas"] == replicas)


def _p95(run: Mapping[str, Any]) -> float:
    """Return the 95th percentile of the answers; without any it is endless."""
    return float(run["latency_s"]["p95"][0]) if run["latency_s"] else float("inf")


def _interval(run: Run, name: str) -> str:
    return "{:.1f} ({:.1f} to {:.1f})".format(*run["latency_s"][name]) if run["latency_s"] else "–"


def _request(question: Question, started: float) -> list[Any]:
    sent = question.attempts[0].sent - started
    return [round(sent, 2), round(question.took, 3), question.outcome, len(question.attempts)]
