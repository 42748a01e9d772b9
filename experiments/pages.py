"""An experiment's folder: report.json, summary.md, report.html with its plots, and each plot as an SVG."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from launcher.console import say
from loadtest import plots
from loadtest.document import document, markdown_table, table
from loadtest.write import as_json

Row = Sequence[str]


def write(
    report: Mapping[str, Any],
    *,
    about: Sequence[str],
    tables: Sequence[Sequence[Row]],
    figures: Mapping[str, Figure],
    out: Path,
) -> Path:
    """Write the folder of the report's name in `out` and return it.

    about: paragraphs. tables: rows, the first of which is the head. figures: by the name of their file.
    """
    folder: Path = out / report["name"]
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {name: svg(figure) for name, figure in figures.items()}
    for name, text in drawn.items():
        (folder / f"{name}.svg").write_text(text)
    paragraphs = [*about, *_made(report)]
    parts = [f"# {report['name']}", *about, *(markdown_table(rows) for rows in tables), *_made(report)]
    (folder / "summary.md").write_text("\n\n".join(parts) + "\n")
    body = [f"<p>{escape(text)}</p>" for text in paragraphs]
    body += [table(rows).replace("**", "") for rows in tables] + list(drawn.values())
    (folder / "report.html").write_text(
        document(report["name"], body, width="60rem", style="table { margin: 1rem 0 }\n")
    )
    (folder / "report.json").write_text(as_json(dict(report)))
    say((folder / "summary.md").read_text() + f"\nThe whole report is {folder / 'report.html'}.")
    return folder


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    """Return a figure of that size in inches and its axes, in the style of all reports."""
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(1, columns)


def svg(figure: Figure) -> str:
    """Return a figure as SVG, the same text for the same figure."""
    with mpl.rc_context(plots.STYLE):
        drawn = plots.svg(figure, transparent=False)
    return re.sub(r"(\d\.\d\d)\d+", r"\1", drawn)  # a hundredth of a point is enough, and a third smaller


def _made(report: Mapping[str, Any]) -> list[str]:
    return [
        f"Simulated: {report['simulated']}.",
        f"Real: {report['real']}.",
        f"Made by `{report['command']}` at {report['started']}, revision {report['revision']}, on {report['cpus']} "
        f"CPUs that were busy for {100 * report['cpu_busy']:.0f} % of the time.",
    ]
