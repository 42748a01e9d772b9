"""The report of the comparison: copies counted together, targets, tables and plot."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import pages
from loadtest.intervals import INSIDE, draws, summarise
from loadtest.report import Report
from loadtest.scenarios import SCENARIOS

NAIVE, HELM, SLUICE = "naive", "ollama-helm", "sluice"
TITLES = {NAIVE: "Flask’s server calling `ollama.chat`", HELM: "Ollama behind a Service", SLUICE: "Sluice"}
COLOURS = {NAIVE: "#b5482a", HELM: "#e0a526", "ollama": "#e0a526", SLUICE: "#2a7f62"}
# By replicas: at least this share answered, and of the others' throughput and 95th percentile.
TARGETS = {4: (1.0, 1.1, 0.65), 10: (0.999, 1.45, 0.55)}
Runs = Mapping[str, Report]


def write(report: Report, *, out: Path) -> int:
    """Write the folder, and return 0 if every target was met."""
    report["targets"] = targets(report["replicas"], report["systems"])
    figures = {"latency": plot(report["systems"])}
    pages.write(report, about=[about(report)], tables=tables(report), figures=figures, out=out)
    return 0 if all(target["kept"] for target in report["targets"]) else 1


def pool(runs: list[Report]) -> Report:
    """Return the runs of a system's copies as one: counts and requests of all of them, rates of one on average."""
    requests = [request for run in runs for request in run["requests"]]
    counts = Counter[str]()
    for run in runs:
        counts.update(run["counts"])
    return {
        "valid": all(run["valid"] for run in runs),
        "invalid_because": [reason for run in runs for reason in run["invalid_because"]],
        "counts": dict(counts),
        "answered_share": round(counts["answered"] / counts["requests"], 4),
        "throughput": round(fmean(run["throughput"] for run in runs), 4),
        "goodput": round(fmean(run["goodput"] for run in runs), 4),
        "slo_s": runs[0]["slo_s"],
        "latency_s": summarise(_answered(requests)),
        "copies": [{"throughput": run["throughput"], "p95_s": run["latency_s"]["p95"][0]} for run in runs],
        "requests": requests,
    }


def targets(replicas: int, runs: Runs) -> list[dict[str, Any]]:
    """Return what was to be reached with so many replicas, and whether it was: with an invalid run nothing is."""
    if replicas not in TARGETS:
        return []
    share, faster, sooner = TARGETS[replicas]
    found = [target("answered by Sluice", runs[SLUICE]["answered_share"], ">=", share)]
    for other in (NAIVE, HELM):
        found.append(target(f"throughput beside {other}", throughput_ratio(runs, other), ">=", faster))
        found.append(target(f"p95 beside {other}", latency_ratio(runs, other), "<=", sooner))
    for each in found:
        each["kept"] = each["kept"] and all(run["valid"] for run in runs.values())
    return found


def target(what: str, value: float, sign: str, limit: float) -> dict[str, Any]:
    """Return a target, the figure that was measured, and whether it is kept; sign: `>=` or `<=`."""
    return {
        "what": what,
        "limit": f"{sign}{limit}",
        "value": value,
        "kept": value >= limit if sign == ">=" else value <= limit,
    }


def throughput_ratio(runs: Runs, other: str) -> float:
    """Return Sluice's throughput beside another system's."""
    return round(float(runs[SLUICE]["throughput"] / runs[other]["throughput"]), 3)


def latency_ratio(runs: Runs, other: str) -> float:
    """Return Sluice's 95th percentile of answers beside another system's."""
    return round(float(runs[SLUICE]["latency_s"]["p95"][0] / runs[other]["latency_s"]["p95"][0]), 3)


def latency_interval(runs: Runs, other: str) -> tuple[float, float]:
    """Return the interval that chance leaves to that ratio, 95 % of it, by bootstrap."""
    drawn = []
    for seed, name in enumerate((SLUICE, other)):
        took = np.array(_answered(runs[name]["requests"]))
        drawn.append(np.concatenate([np.quantile(took[rows], 0.95, axis=-1) for rows in draws(len(took), seed)]))
    low, high = np.quantile(drawn[0] / drawn[1], INSIDE)
    return float(low), float(high)


def about(report: Report) -> str:
    """Return what was measured, in a paragraph."""
    copies = f"{report['copies']} copies of each, counted together, " if report["copies"] > 1 else ""
    return (
        f"The predecessor’s ramp ({SCENARIOS['ramp'].describe()}; up to 3 retries, 90 s an attempt; times × "
        f"{report['time_scale']:g}) against three systems of {report['replicas']} pods each, {copies}all at the same "
        "time: their engines sleep, so none takes another’s CPU, and what disturbs one disturbs all."
    )


def tables(report: Report) -> list[list[pages.Row]]:
    """Return the systems side by side, and the targets."""
    runs: dict[str, Report] = report["systems"]
    rows: list[pages.Row] = [["", *(TITLES[name] for name in runs)], *_counts(runs), *_figures(runs)]
    if report["copies"] > 1:
        for title, name, unit in (("throughput of each copy", "throughput", 60), ("p95 of each copy", "p95_s", 1)):
            rows.append([title, *(_list(unit * copy[name] for copy in run["copies"]) for run in runs.values())])
    return [rows, targets_table(report)] if report["targets"] else [rows]


def targets_table(report: Report) -> list[pages.Row]:
    """Return what was to be reached, what was measured, and whether that is enough."""
    rows: list[pages.Row] = [["target", "limit", "measured", ""]]
    for each in report["targets"]:
        rows.append([each["what"], each["limit"], f"{each['value']:g}", "met" if each["kept"] else "**missed**"])
    return rows


def _counts(runs: Runs) -> list[pages.Row]:
    counts = [run["counts"] for run in runs.values()]
    shares = [f"{100 * run['answered_share']:.1f} % of {run['counts']['requests']}" for run in runs.values()]
    titles = {
        "after a retry": "answered_after_retry",
        "refused to the last": "refused",
        "timed out to the last": "timeout",
        "failed": "error",
        "attempts": "attempts",
    }
    return [["answered", *shares], *([title, *(str(each[name]) for each in counts)] for title, name in titles.items())]


def _figures(runs: Runs) -> list[pages.Row]:
    others = [name for name in runs if name != SLUICE]
    times = {name: [_interval(*run["latency_s"][name]) for run in runs.values()] for name in ("p50", "p95")}
    faster = [f"{throughput_ratio(runs, name):.2f} ×" for name in others]
    intervals = {name: latency_interval(runs, name) for name in others}
    sooner = [f"{latency_ratio(runs, name):.2f} × ({low:.2f} to {high:.2f})" for name, (low, high) in intervals.items()]
    return [
        ["throughput, answers/min", *(f"{60 * run['throughput']:.1f}" for run in runs.values())],
        ["Sluice’s beside it", *faster, ""],
        *([f"{name}, s (95 % interval)", *values] for name, values in times.items()),
        ["Sluice’s p95 beside it", *sooner, ""],
    ]


def plot(runs: Runs, titles: Mapping[str, str] = TITLES) -> Figure:
    """Return each question’s wait by when it was asked, and the share of questions answered within a time."""
    figure, (over_time, shares) = pages.new_figure(9, 3.2, columns=2)
    for name, run in runs.items():
        answered = [(started, took) for started, took, outcome, _ in run["requests"] if outcome == "answered"]
        lost = [(started, took) for started, took, outcome, _ in run["requests"] if outcome != "answered"]
        title = titles[name].replace("`", "")
        over_time.plot(*zip(*answered, strict=True), ".", markersize=4, color=COLOURS[name], label=title)
        if lost:
            over_time.plot(*zip(*lost, strict=True), "x", markersize=5, color=COLOURS[name], label=f"{name}: no answer")
        took = np.sort([each[1] for each in answered])
        percent = 100 * np.arange(1, len(took) + 1) / len(run["requests"])
        shares.step(took, percent, where="post", color=COLOURS[name], label=title)
    over_time.set(xlabel="asked after, s", ylabel="until the answer, s", ylim=(0, None))
    shares.set(xlabel="within, s", ylabel="% of questions answered", xlim=(0, None), ylim=(0, 102))
    over_time.legend(frameon=False, fontsize=7)
    shares.legend(frameon=False, fontsize=7, loc="lower right")
    return figure


def _answered(requests: list[Any]) -> list[float]:
    return [took for _, took, outcome, _ in requests if outcome == "answered"]


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def _list(values: Any) -> str:
    return ", ".join(f"{value:.1f}" for value in values)
