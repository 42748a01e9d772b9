"""The plots of a report, as SVG that is the same for the same figures."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtest.report import OUTCOMES, Report

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "sluice",
    "svg.fonttype": "none",  # text stays text: small, and it can be searched
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
}
COLOURS = dict(zip(OUTCOMES, ("#2a7f62", "#e0a526", "#b5482a", "#7a1f1f", "#7b5ea7"), strict=True))
# In the plot an answer that took a retry shows when there were refusals.
FATES = {"answered": COLOURS["answered"], "answered after a retry": "#8cc0a8"} | COLOURS
BLUE, GREY = "#2f5d8a", "#888888"
BINS = 60


def plots(report: Report) -> dict[str, str]:
    """Return each plot as SVG, by its title; those without data are left out."""
    with mpl.rc_context(STYLE):
        drawn = {
            "Time to the whole answer": _latency(report),
            "What became of the questions, by when they were asked": _outcomes(report),
            "Time to the whole answer, by when it was asked": _over_time(report),
            "Replicas, queue and memory": _replicas(report),
            "The stream beside: time to first token and between tokens": _stream(report),
        }
    return {title: text for title, text in drawn.items() if text}


def _figure(height: float = 2.6, rows: int = 1) -> tuple[Figure, Any]:
    figure = Figure(figsize=(8, height), layout="constrained")
    return figure, figure.subplots(rows, 1, sharex=True)


def svg(figure: Figure, *, transparent: bool = True) -> str:
    """Return a figure as an element of SVG, the same text for the same figure where STYLE is set."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, transparent=transparent)
    return "<svg " + text.getvalue().partition("<svg ")[2]


def _latency(report: Report) -> str:
    took = sorted(each[1] for each in report["requests"] if each[2] == "answered")
    if not took:
        return ""
    figure, axes = _figure()
    shares = np.linspace(0, 1, min(len(took), 200))
    axes.plot(np.quantile(took, shares), 100 * shares, color=BLUE)
    axes.axvline(report["slo_s"], color=GREY, linestyle="--", label=f"SLO, {report['slo_s']:g} s")
    for name in ("p50", "p95", "p99"):
        value, low, high = report["latency_s"][name]
        axes.errorbar(value, float(name[1:]), xerr=[[value - low], [high - value]], fmt="o", color=BLUE, capsize=3)
        axes.annotate(f" {name}", (value, float(name[1:])), va="top")
    axes.set(xlabel="s", ylabel="% of answers", xlim=(0, None), ylim=(0, 102))
    axes.legend(frameon=False, loc="lower right")
    return svg(figure)


def _edges(report: Report) -> Any:
    last = max((each[0] for each in report["requests"]), default=0.0)
    return np.linspace(0, max(report["seconds"], last), BINS + 1)


def _outcomes(report: Report) -> str:
    if not report["requests"]:
        return ""
    figure, axes = _figure()
    edges = _edges(report)
    found = {name: [each[0] for each in report["requests"] if _fate(each) == name] for name in FATES}
    names = [name for name, times in found.items() if times]
    data = [found[name] for name in names]
    axes.hist(
        data,
        bins=edges,
        stacked=True,
        label=[name.replace("_", " ") for name in names],
        color=[FATES[name] for name in names],
    )
    axes.set(xlabel="s since the start", ylabel=f"questions in {edges[1]:.3g} s", xlim=(0, edges[-1]))
    axes.legend(frameon=False, ncols=len(names), loc="lower center", bbox_to_anchor=(0.5, 1))
    return svg(figure)


def _fate(request: Sequence[Any]) -> str:
    return "answered after a retry" if request[2] == "answered" and request[3] > 1 else str(request[2])


def _over_time(report: Report) -> str:
    answered = [each for each in report["requests"] if each[2] == "answered"]
    if not answered:
        return ""
    figure, axes = _figure()
    edges = _edges(report)
    times, took = np.array([each[:2] for each in answered], dtype=float).T
    which = np.digitize(times, edges)
    points = [(edges[i - 1], took[which == i]) for i in np.unique(which)]
    at = [edge for edge, _ in points]
    axes.fill_between(
        at, [v.min() for _, v in points], [v.max() for _, v in points], color=BLUE, alpha=0.2, linewidth=0
    )
    axes.plot(at, [np.median(v) for _, v in points], color=BLUE, label="median; the band is from shortest to longest")
    axes.set(xlabel="s since the start", ylabel="s", xlim=(0, edges[-1]), ylim=(0, None))
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))
    return svg(figure)


def _replicas(report: Report) -> str:
    samples = report["samples"]
    if not samples:
        return ""
    used = [{"at": sample["at"]} | sample["memory_mib"] for sample in samples]
    containers = sorted({name for sample in samples for name in sample["memory_mib"]})
    figure, (pods, work, *memory) = _figure(5.4 if containers else 3.6, rows=3 if containers else 2)
    _steps(pods, samples, {"replicas": GREY, "ready": COLOURS["answered"]})
    _steps(work, samples, {"in_flight": BLUE, "queued": COLOURS["refused"]})
    pods.set(ylabel="pods", ylim=(0, None), xlim=(0, _edges(report)[-1]))
    work.set(ylabel="requests", ylim=(0, None))
    for axes in memory:
        _steps(axes, used, dict(zip(containers, COLOURS.values(), strict=False)))
        axes.set(ylabel="memory, MiB", yscale="log")
    figure.axes[-1].set(xlabel="s since the start")
    return svg(figure)


def _steps(axes: Axes, samples: Sequence[dict[str, float]], lines: dict[str, str]) -> None:
    for name, colour in lines.items():
        values = [sample.get(name, np.nan) for sample in samples]
        axes.step(
            [sample["at"] for sample in samples], values, where="post", color=colour, label=name.replace("_", " ")
        )
    axes.legend(frameon=False, ncols=len(lines), loc="lower center", bbox_to_anchor=(0.5, 1))


def _stream(report: Report) -> str:
    heard = [each for each in (report["probe"] or {"streams": []})["streams"] if each[3] == "answered"]
    if not heard:
        return ""
    figure, (first, between) = _figure(3.6, rows=2)
    at = [each[0] for each in heard]
    first.plot(at, [each[1] for each in heard], "o", markersize=3, color=BLUE)
    between.plot(at, [1000 * (each[2] or 0) for each in heard], "o", markersize=3, color=COLOURS["bad_answer"])
    first.set(ylabel="to first token, s", ylim=(0, None))
    between.set(ylabel="between, ms (mean)", xlabel="s since the start", ylim=(0, None))
    return svg(figure)
