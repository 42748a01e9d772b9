"""The plots of a run's report."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from loadtest.reporting.document import Plot
from loadtest.reporting.figures import (
    BLUE,
    GREEN,
    GREY,
    LIGHT_GREEN,
    OUTCOME_COLOURS,
    PURPLE,
    YELLOW,
    legend_above,
    new_figure,
    steps,
    svg,
)
from loadtest.reporting.folder import Report

# In the plot an answer that took a retry shows when there were refusals.
FATES = {"answered": GREEN, "answered after a retry": LIGHT_GREEN} | OUTCOME_COLOURS
BINS = 60
WIDTH = 8  # inches
SINCE = "s since the start"


def plots(report: Report) -> Iterator[Plot]:
    """Yield each plot of which there are data."""
    answered = [each for each in report["requests"] if each[2] == "answered"]
    streams = [each for each in (report["probe"] or {"streams": []})["streams"] if each[3] == "answered"]
    drawn = {
        "Time to the whole answer": answered and _latency(report, answered),
        "What became of the questions, by when they were asked": report["requests"] and _outcomes(report),
        "Time to the whole answer, by when it was asked": answered and _over_time(report, answered),
        "Replicas, queue and memory": report["samples"] and _replicas(report),
        "The probe: time to first token and between tokens": streams and _streams(streams),
    }
    return (Plot(svg(figure), title=title) for title, figure in drawn.items() if figure)


def _latency(report: Report, answered: Sequence[Sequence[Any]]) -> Figure:
    figure, axes = new_figure(WIDTH, 2.6)
    shares = np.linspace(0, 1, min(len(answered), 200))
    axes.plot(np.quantile([each[1] for each in answered], shares), 100 * shares, color=BLUE)
    axes.axvline(report["slo_s"], color=GREY, linestyle="--", label=f"SLO, {report['slo_s']:g} s")
    for name in ("p50", "p95", "p99"):
        value, low, high = report["latency_s"][name]
        axes.errorbar(value, float(name[1:]), xerr=[[value - low], [high - value]], fmt="o", color=BLUE, capsize=3)
        axes.annotate(f" {name}", (value, float(name[1:])), va="top")
    axes.set(xlabel="s", ylabel="% of answers", xlim=(0, None), ylim=(0, 102))
    axes.legend(loc="lower right")
    return figure


def _edges(report: Report) -> Any:
    last = max((each[0] for each in report["requests"]), default=0.0)
    return np.linspace(0, max(report["seconds"], last), BINS + 1)


def _outcomes(report: Report) -> Figure:
    figure, axes = new_figure(WIDTH, 2.6)
    edges = _edges(report)
    found = {name: [each[0] for each in report["requests"] if _fate(each) == name] for name in FATES}
    found = {name: times for name, times in found.items() if times}
    labels, colours = [name.replace("_", " ") for name in found], [FATES[name] for name in found]
    axes.hist(list(found.values()), bins=edges, stacked=True, label=labels, color=colours)
    axes.set(xlabel=SINCE, ylabel=f"questions in {edges[1]:.3g} s", xlim=(0, edges[-1]))
    legend_above(axes, len(found))
    return figure


def _fate(request: Sequence[Any]) -> str:
    return "answered after a retry" if request[2] == "answered" and request[3] > 1 else str(request[2])


def _over_time(report: Report, answered: Sequence[Sequence[Any]]) -> Figure:
    figure, axes = new_figure(WIDTH, 2.6)
    edges = _edges(report)
    times, took = np.array([each[:2] for each in answered], dtype=float).T
    which = np.digitize(times, edges)
    bins = np.unique(which)
    low, middle, high = np.array([np.quantile(took[which == each], (0, 0.5, 1)) for each in bins]).T
    axes.fill_between(edges[bins - 1], low, high, color=BLUE, alpha=0.2, linewidth=0)
    axes.plot(edges[bins - 1], middle, color=BLUE, label="median; the band is from shortest to longest")
    axes.set(xlabel=SINCE, ylabel="s", xlim=(0, edges[-1]), ylim=(0, None))
    legend_above(axes, 1)
    return figure


def _replicas(report: Report) -> Figure:
    samples = [each | each["memory_mib"] for each in report["samples"]]
    containers = sorted({name for each in samples for name in each["memory_mib"]})
    panels = {"pods": {"replicas": GREY, "ready": GREEN}, "requests": {"in_flight": BLUE, "queued": YELLOW}}
    if containers:
        panels["memory, MiB"] = dict(zip(containers, OUTCOME_COLOURS.values(), strict=False))
    figure, grid = new_figure(WIDTH, 1.8 * len(panels), rows=len(panels), sharex=True)
    for axes, (label, colours) in zip(grid, panels.items(), strict=True):
        steps(axes, samples, colours)
        axes.set(ylabel=label, **({"yscale": "log"} if label == "memory, MiB" else {"ylim": (0, None)}))
        legend_above(axes, len(colours))
    grid[-1].set(xlabel=SINCE, xlim=(0, _edges(report)[-1]))
    return figure


def _streams(streams: Sequence[Sequence[Any]]) -> Figure:
    figure, (first, between) = new_figure(WIDTH, 3.6, rows=2, sharex=True)
    at = [each[0] for each in streams]
    first.plot(at, [each[1] for each in streams], "o", markersize=3, color=BLUE)
    between.plot(at, [1000 * (each[2] or 0) for each in streams], "o", markersize=3, color=PURPLE)
    first.set(ylabel="to first token, s", ylim=(0, None))
    between.set(ylabel="between, ms (mean)", xlabel=SINCE, ylim=(0, None))
    return figure
