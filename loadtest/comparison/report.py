"""The report of the comparison: copies counted together, targets, table and plot."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from loadtest.reporting.document import Block, Cell, Plot, Table, cell
from loadtest.reporting.figures import GREEN, RED, YELLOW, answered_within, new_figure, svg
from loadtest.reporting.folder import Report, publish
from loadtest.reporting.statistics import p95, ratio, rounded, summarise
from loadtest.reporting.target import Target, at_least, at_most
from loadtest.scenarios import SCENARIOS

NAIVE, HELM, SLUICE = "naive", "ollama-helm", "sluice"
TITLES = {NAIVE: "Flask’s server calling `ollama.chat`", HELM: "Ollama behind a Service", SLUICE: "Sluice"}
COLOURS = {NAIVE: RED, HELM: YELLOW, "ollama": YELLOW, SLUICE: GREEN}
# By replicas: at least this share answered, and of the others' throughput and 95th percentile.
TARGETS = {4: (1.0, 1.1, 0.65), 10: (0.999, 1.45, 0.55)}
Runs = Mapping[str, Report]  # by the systems' names


def write(report: Report, *, out: Path) -> int:
    """Write the folder, and return 0 if every target was met."""
    add_ratios(report["systems"], ratios)
    report["targets"] = targets(report["replicas"], report["systems"])
    return publish(report, blocks(report), out)


def pool(runs: Sequence[Report]) -> Report:
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


def add_ratios(runs: Runs, of: Callable[[Report, Report], dict[str, Any]]) -> None:
    """Add to each other system's run what Sluice's figures are as multiples of its own."""
    for name, run in runs.items():
        if name != SLUICE and SLUICE in runs:
            run["sluice_ratio"] = of(runs[SLUICE], run)


def ratios(ours: Report, theirs: Report) -> dict[str, Any]:
    """Return the ratios of throughput and of the answers' 95th percentile, the latter with its interval."""
    of_ours, of_theirs = (np.array(_answered(run["requests"])) for run in (ours, theirs))
    _, low, high = ratio(of_ours, of_theirs, p95)
    return {
        "throughput": throughput_ratio(ours, theirs),
        "p95": [round(ours["latency_s"]["p95"][0] / theirs["latency_s"]["p95"][0], 3), rounded(low), rounded(high)],
    }


def throughput_ratio(ours: Report, theirs: Report) -> float:
    """Return the ratio of throughput."""
    return round(float(ours["throughput"] / theirs["throughput"]), 3)


def targets(replicas: int, runs: Runs) -> list[Target]:
    """Return what was to be reached with so many replicas, and whether it was."""
    if replicas not in TARGETS:
        return []
    share, faster, sooner = TARGETS[replicas]
    found = [at_least("answered by Sluice", runs[SLUICE]["answered_share"], share)]
    for other in (NAIVE, HELM):
        found.append(at_least(f"throughput compared with {other}", runs[other]["sluice_ratio"]["throughput"], faster))
        found.append(at_most(f"p95 compared with {other}", runs[other]["sluice_ratio"]["p95"][0], sooner))
    return of_valid(runs, found)


def of_valid(runs: Runs, found: Sequence[Target]) -> list[Target]:
    """Return the targets, of which none has passed if a run is invalid."""
    valid = all(run["valid"] for run in runs.values())
    return [{**target, "passed": target["passed"] and valid} for target in found]


def blocks(report: Report) -> Iterator[Block]:
    """Yield the blocks of the report."""
    copies = f"{report['copies']} copies of each, counted together, " if report["copies"] > 1 else ""
    yield (
        f"The predecessor’s ramp ({SCENARIOS['ramp'].describe()}; up to 3 retries, 90 s an attempt; times × "
        f"{report['time_scale']:g}) against three systems of {report['replicas']} pods each, {copies}all at the same "
        "time: their engines sleep, so none takes another’s CPU, and what disturbs one disturbs all."
    )
    yield table(report["systems"], report["copies"])
    yield Plot(svg(plot(report["systems"])), file="latency")


def table(runs: Runs, copies: int) -> Table:
    """Return the systems side by side."""
    figures = {
        "answered": answered,
        "after a retry": cell("counts", "answered_after_retry"),
        "refused at the last attempt": cell("counts", "refused"),
        "timed out at the last attempt": cell("counts", "timeout"),
        "failed": cell("counts", "error"),
        "attempts": cell("counts", "attempts"),
        "throughput, answers/min": cell("throughput", spec=".1f", scale=60),
        "Sluice’s throughput ÷ this": ratio_cell("throughput"),
        "p50, s (95 % interval)": cell("latency_s", "p50"),
        "p95, s (95 % interval)": cell("latency_s", "p95"),
        "Sluice’s p95 ÷ this": ratio_cell("p95"),
    }
    if copies > 1:
        figures["throughput of each copy"] = lambda run: each_copy(run, "throughput", 60)
        figures["p95 of each copy"] = lambda run: each_copy(run, "p95_s")
    return Table.columns_of("", {TITLES[name]: run for name, run in runs.items()}, figures)


def ratio_cell(name: str) -> Cell:
    """Return what shows one of add_ratios()."""
    return cell("sluice_ratio", name, spec=".2f", unit=" ×", missing="")


def answered(run: Mapping[str, Any]) -> str:
    """Return the share of questions that were answered, in words."""
    return f"{100 * run['answered_share']:.1f} % of {run['counts']['requests']}"


def each_copy(run: Mapping[str, Any], name: str, scale: float = 1) -> str:
    """Return a figure of each copy."""
    return ", ".join(f"{scale * copy[name]:.1f}" for copy in run["copies"])


def plot(runs: Runs, titles: Mapping[str, str] = TITLES) -> Figure:
    """Return each question’s wait by when it was asked, and the share of questions answered within a time."""
    figure, (over_time, shares) = new_figure(9, 3.2, columns=2)
    shown = [(titles[name].replace("`", ""), COLOURS[name], run["requests"]) for name, run in runs.items()]
    for title, colour, requests in shown:
        for mark, label, given in ((".", title, True), ("x", f"{title}: no answer", False)):
            points = [(at, took) for at, took, outcome, _ in requests if (outcome == "answered") is given]
            if points:
                over_time.plot(*zip(*points, strict=True), mark, markersize=4, color=colour, label=label)
    over_time.set(xlabel="asked after, s", ylabel="until the answer, s", ylim=(0, None))
    over_time.legend(fontsize=7)
    answered_within(shares, shown)
    return figure


def _answered(requests: Sequence[Sequence[Any]]) -> list[float]:
    return [took for _, took, outcome, _ in requests if outcome == "answered"]
