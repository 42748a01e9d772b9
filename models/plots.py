"""The plots of a comparison, as SVG that is the same for the same figures."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from loadtest.plots import STYLE, svg
from models.advice import memory_mib
from models.variant import SLOTS

ONE, MANY, GREY = "#8fb3d9", "#2f5d8a", "#888888"
Entry = dict[str, Any]


def plots(entries: Sequence[Entry]) -> dict[str, str]:
    """Return each plot as SVG, by its title; those without models are left out."""
    writers = [each for each in entries if "text" in each["quality"]]
    readers = [each for each in entries if "meaning" in each["quality"]]
    with mpl.rc_context(STYLE):
        drawn = {
            "Speed, right answers and memory (the area of a disc)": _speed_and_quality(writers),
            "Tokens a second": _bars(writers, ("tokens_per_s_1", f"tokens_per_s_{SLOTS}"), "tokens/s"),
            "Texts a second": _bars(readers, ("texts_per_s_1", f"texts_per_s_{SLOTS}"), "texts/s"),
            "Time to first token": _bars(writers, ("ttft_s",), "s"),
        }
    return {title: text for title, text in drawn.items() if text}


def _speed_and_quality(entries: Sequence[Entry]) -> str:
    if not entries:
        return ""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    largest = max(memory_mib(each) for each in entries)
    for number, entry in enumerate(entries):
        x, x_low, x_high = entry["speed"]["figures"][f"tokens_per_s_{SLOTS}"]
        y, y_low, y_high = (100 * each for each in entry["quality"]["text"]["share"])
        across, up = [[x - x_low], [x_high - x]], [[y - y_low], [y_high - y]]
        colour = f"C{number % 10}"
        axes.errorbar(x, y, xerr=across, yerr=up, color=colour, linewidth=0.8, alpha=0.6)
        area = 600 * memory_mib(entry) / largest
        axes.scatter(x, y, s=area, color=colour, alpha=0.5, label=f"{entry['label']}, {memory_mib(entry)} MiB")
    axes.set(xlabel=f"tokens/s, {SLOTS} at once", ylabel="% of answers right", xlim=(0, None), ylim=(0, 100))
    legend = axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    for handle in legend.legend_handles:
        handle.set_sizes([30])  # type: ignore[union-attr]
    return svg(figure)


def _bars(entries: Sequence[Entry], figures: Sequence[str], unit: str) -> str:
    entries = [each for each in entries if set(figures) <= each["speed"]["figures"].keys()]
    if not entries:
        return ""
    figure = Figure(figsize=(8, 0.8 + 0.42 * len(entries)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(figures)
    for index, name in enumerate(figures):
        found = [entry["speed"]["figures"][name] for entry in entries]
        at = [number + (index - (len(figures) - 1) / 2) * height for number in range(len(entries))]
        errors = [[value - low for value, low, _ in found], [high - value for value, _, high in found]]
        label = f"{SLOTS} at once" if index else "1 at a time"
        axes.barh(at, [value for value, _, _ in found], height, color=(ONE, MANY)[index], label=label)
        axes.errorbar([value for value, _, _ in found], at, xerr=errors, fmt="none", ecolor=GREY, capsize=2)
    axes.set_yticks(range(len(entries)), [entry["label"] for entry in entries])
    axes.invert_yaxis()
    axes.set(xlabel=unit, xlim=(0, None))
    axes.grid(visible=False, axis="y")
    axes.set_axisbelow(True)
    if len(figures) > 1:
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return svg(figure)
