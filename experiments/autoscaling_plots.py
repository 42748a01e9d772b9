"""Replicas, queue and latency over time, an autoscaler beside the other."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.autoscaling_arms import PERIODS, Outcome
from loadtest.plots import BLUE, COLOURS, GREY, STYLE

AFTER = 30  # seconds that are shown after the last question
DPI = 100  # of lines and dots, which are a picture within the plot: as SVG they would take three times the space


def over_time(outcomes: Mapping[str, Outcome]) -> Figure:
    """Return the plot: a column a run."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(outcomes) + 2, 6.6), layout="constrained", dpi=DPI)
        grid = figure.subplots(3, len(outcomes), sharex=True, sharey="row", squeeze=False)
        for column, (name, outcome) in enumerate(outcomes.items()):
            pods, work, latency = grid[:, column]
            pods.set_title(name if len(outcomes) > 1 else "")
            _samples(pods, outcome, {"pods": GREY, "ready": COLOURS["answered"], "wanted": COLOURS["timeout"]})
            _samples(work, outcome, {"in_flight": BLUE, "queued": COLOURS["refused"]})
            _latency(latency, outcome)
            for axes in grid[:, column]:
                _phases(axes, outcome.report)
                axes.locator_params(nbins=5)
            latency.set(xlabel="s", xlim=(0, outcome.report["seconds"] + AFTER))
        for axes, label in zip(grid[:, 0], ("pods", "requests", "s until the answer"), strict=True):
            axes.set(ylabel=label, ylim=(0, 1.25 * axes.get_ylim()[1]))
            axes.legend(frameon=False, fontsize=7, loc="upper right", ncols=3)
        return figure


def _samples(axes: Axes, outcome: Outcome, lines: dict[str, str]) -> None:
    at = [sample.at - outcome.began for sample in outcome.seen.samples]
    for name, colour in lines.items():
        values, label = [getattr(sample, name) for sample in outcome.seen.samples], name.replace("_", " ")
        axes.step(at, values, where="post", color=colour, linewidth=1.2, label=label, rasterized=True)


def _latency(axes: Axes, outcome: Outcome) -> None:
    requests = outcome.report["requests"]
    for name, colour in COLOURS.items():
        found = [(started, took) for started, took, what, _ in requests if what == name]
        if found:
            axes.plot(
                *zip(*found, strict=True),
                ".",
                markersize=3,
                color=colour,
                label=name.replace("_", " "),
                rasterized=True,
            )
    axes.axhline(outcome.report["slo_s"], color=GREY, linestyle="--", linewidth=1, label="SLO")


def _phases(axes: Axes, report: dict[str, Any]) -> None:
    if report["scenario"] == "step":
        axes.axvspan(*(share * report["seconds"] for share in PERIODS.values()), color=GREY, alpha=0.08, linewidth=0)
