"""Plots in the style of all reports, as SVG that is the same text for the same figures."""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

mpl.rcParams.update(
    {
        "svg.hashsalt": "sluice",
        "svg.fonttype": "none",  # text stays text: small, and it can be searched
        "font.size": 9,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
    }
)
GREEN, LIGHT_GREEN, YELLOW, RED, DARK_RED = "#2a7f62", "#8cc0a8", "#e0a526", "#b5482a", "#7a1f1f"
BLUE, LIGHT_BLUE, PURPLE, GREY = "#2f5d8a", "#8fb3d9", "#7b5ea7", "#888888"
OUTCOME_COLOURS = {"answered": GREEN, "refused": YELLOW, "timeout": RED, "error": DARK_RED, "bad_answer": PURPLE}


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **sharing: Any) -> tuple[Figure, Any]:
    """Return a figure of that size in inches, and its axes; what is rasterised in it has 100 dots an inch."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=100)
    return figure, figure.subplots(rows, columns, **sharing)


def svg(figure: Figure) -> str:
    """Return a figure as an element of SVG."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    drawn = "<svg " + text.getvalue().partition("<svg ")[2]
    return re.sub(r"(\d\.\d\d)\d+", r"\1", drawn)  # a hundredth of a point is enough, and a third smaller


def legend_above(axes: Axes, columns: int) -> None:
    """Put the legend over the axes, in so many columns."""
    axes.legend(ncols=columns, loc="lower center", bbox_to_anchor=(0.5, 1))


def steps(axes: Axes, samples: Sequence[Mapping[str, float]], colours: Mapping[str, str], **style: Any) -> None:
    """Draw figures of samples, each of which holds until the next; colours: by the figures' names."""
    at = [sample["at"] for sample in samples]
    for name, colour in colours.items():
        values = [sample.get(name, np.nan) for sample in samples]
        axes.step(at, values, where="post", color=colour, label=name.replace("_", " "), **style)


def answered_within(axes: Axes, systems: Iterable[tuple[str, str, Sequence[Sequence[Any]]]]) -> None:
    """Draw the share of questions that were answered within a time; systems: title, colour and requests of each."""
    for title, colour, requests in systems:
        took = np.sort([took for _, took, outcome, _ in requests if outcome == "answered"])
        percent = 100 * np.arange(1, len(took) + 1) / len(requests)
        axes.step(took, percent, where="post", color=colour, label=title)
    axes.set(xlabel="within, s", ylabel="% of questions answered", xlim=(0, None), ylim=(0, 102))
    axes.legend(fontsize=7, loc="lower right")
