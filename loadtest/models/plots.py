"""The plots of a comparison of models."""

from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.figure import Figure

from loadtest.models.advice import memory_mib
from loadtest.models.variant import SLOTS
from loadtest.reporting.document import Plot
from loadtest.reporting.figures import BLUE, GREY, LIGHT_BLUE, legend_above, new_figure, svg

Entry = dict[str, Any]


def plots(chat_models: Sequence[Entry], embedding_models: Sequence[Entry]) -> Iterator[Plot]:
    """Yield each plot of which there are data."""
    if chat_models:
        title = "Speed, right answers and memory (the area of a disc)"
        yield Plot(svg(_speed_and_quality(chat_models)), title=title)
    for title, entries, figures, unit in (
        ("Tokens a second", chat_models, ("tokens_per_s_1", f"tokens_per_s_{SLOTS}"), "tokens/s"),
        ("Texts a second", embedding_models, ("texts_per_s_1", f"texts_per_s_{SLOTS}"), "texts/s"),
        ("Time to first token", chat_models, ("ttft_s",), "s"),
    ):
        if measured := [each for each in entries if set(figures) <= each["speed"]["figures"].keys()]:
            yield Plot(svg(_bars(measured, figures, unit)), title=title)


def _speed_and_quality(entries: Sequence[Entry]) -> Figure:
    figure, axes = new_figure(8, 4)
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
    for handle in axes.legend(loc="center left", bbox_to_anchor=(1, 0.5)).legend_handles:
        handle.set_sizes([30])
    return figure


def _bars(entries: Sequence[Entry], figures: Sequence[str], unit: str) -> Figure:
    figure, axes = new_figure(8, 0.8 + 0.42 * len(entries))
    height = 0.8 / len(figures)
    for index, name in enumerate(figures):
        found = [entry["speed"]["figures"][name] for entry in entries]
        at = [number + (index - (len(figures) - 1) / 2) * height for number in range(len(entries))]
        errors = [[value - low for value, low, _ in found], [high - value for value, _, high in found]]
        label = f"{SLOTS} at once" if index else "1 at a time"
        axes.barh(at, [value for value, _, _ in found], height, color=(LIGHT_BLUE, BLUE)[index], label=label)
        axes.errorbar([value for value, _, _ in found], at, xerr=errors, fmt="none", ecolor=GREY, capsize=2)
    axes.set_yticks(range(len(entries)), [entry["label"] for entry in entries])
    axes.invert_yaxis()
    axes.set(xlabel=unit, xlim=(0, None), axisbelow=True)
    axes.grid(visible=False, axis="y")
    if len(figures) > 1:
        legend_above(axes, 2)
    return figure
