"""The report on predicted and measured queues: report.json, summary.md and report.html with its plots in it."""

import json
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtest.document import document, markdown_table, table
from loadtest.plots import svg
from planning.simulation import Outcome

Curve = tuple[str, Outcome, Outcome]
TITLE = "Predicted and measured queues"
STYLE = """th, td { text-align: right } td { white-space: nowrap } td:first-child, th:first-child { text-align: left }
"""
HEAD = (
    "what queued",
    "load",
    "requests",
    "p95 wait measured, ms",
    "predicted",
    "error",
    "other traces",
    "mean service measured, ms",
    "predicted",
    "p95 latency measured, ms",
    "predicted",
    "refused, measured",
    "predicted",
)
METHOD = (
    "Real: the gateway under gunicorn, HAProxy 3.0 with the stages' configuration, their queues, HTTP and the client. "
    "Stood in for: the model, by testbed/stand_in, which takes the time of llama.cpp's steps, scaled down. Its "
    "speeds were measured before, in streams through the gateway, alone and in all slots, and what a request holds its "
    "slot for beside that at 50 % load; the prediction knows only these. Predicted is the simulation of the same "
    "arrivals and lengths. “Other traces” are its p95 waits for {fresh} traces of the same rate and lengths by other "
    "seeds (median, and 95 % of them): how much luck there is in one run. Where the client itself couldn't keep time, "
    "1 % of its requests being over 20 ms late, the run was repeated, at most twice, and the one in which it kept time "
    "best was taken, whatever it gave."
)


def write(folder: Path, report: dict[str, Any], curves: list[Curve]) -> None:
    """Write the report's files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    (folder / "summary.md").write_text(_markdown(report))
    (folder / "report.html").write_text(_html(report, curves))


def _markdown(report: dict[str, Any]) -> str:
    rows = markdown_table([HEAD, *map(_cells, report["rows"])], numbers=True)
    command = f"```\n{report['command']}\n```"
    parts = [f"# {TITLE}", _verdict(report), command, _about(report), rows]
    return "\n\n".join(parts) + "\n"


def _html(report: dict[str, Any], curves: list[Curve]) -> str:
    command, rows = f"<pre>{escape(report['command'])}</pre>", table([HEAD, *map(_cells, report["rows"])])
    parts = [f"<p>{escape(_verdict(report))}</p>", command, f"<p>{escape(_about(report))}</p>", rows]
    return document(TITLE, [*parts, plots(report, curves)], width="88rem", style=STYLE)


def _verdict(report: dict[str, Any]) -> str:
    worst = max(report["rows"], key=lambda row: abs(row["error"]))
    kept = "within" if report["kept"] else "NOT within"
    return (
        f"p95 wait is predicted {kept} {report['limit']:.0%}: the largest error is {worst['error']:+.1%} "
        f"({worst['case']}, {worst['load']:.0%} load)."
    )


def _about(report: dict[str, Any]) -> str:
    place = f"{report['started']}, {report['cpus']} CPUs ({report['machine']}), revision {report['revision']}"
    return f"{place}, {report['seconds']} s. {METHOD.format(fresh=report['fresh_traces'])}"


def _cells(row: dict[str, Any]) -> list[str]:
    wait, latency, refused, service = (row[key] for key in ("p95_wait_s", "p95_latency_s", "refused", "mean_service_s"))
    middle, low, high = (f"{value * 1000:.0f}" for value in row["fresh_p95_wait_s"])
    return [
        row["case"],
        f"{row['load']:.0%}",
        f"{row['requests']:,}",
        f"{wait['measured'] * 1000:.0f}",
        f"{wait['predicted'] * 1000:.0f}",
        f"{row['error']:+.1%}",
        f"{middle} ({low} to {high})",
        f"{service['measured'] * 1000:.0f}",
        f"{service['predicted'] * 1000:.0f}",
        f"{latency['measured'] * 1000:.0f}",
        f"{latency['predicted'] * 1000:.0f}",
        f"{refused['measured']:.1%}",
        f"{refused['predicted']:.1%}",
    ]


def plots(report: dict[str, Any], curves: list[Curve]) -> str:
    """Return one SVG: predicted beside measured, and the waits of each run."""
    with mpl.rc_context({"svg.hashsalt": "plan"}):
        figure = Figure(figsize=(13, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        _scatter(left, report)
        _waits(right, curves)
        return svg(figure, transparent=False)


def _scatter(axes: Axes, report: dict[str, Any]) -> None:
    for case in dict.fromkeys(row["case"] for row in report["rows"]):
        rows = [row for row in report["rows"] if row["case"] == case]
        measured, predicted = ([row["p95_wait_s"][side] for row in rows] for side in ("measured", "predicted"))
        axes.plot(measured, predicted, "o", label=case)
    ends = np.array([0.7, 1.4]) * [f([row["p95_wait_s"]["measured"] for row in report["rows"]]) for f in (min, max)]
    axes.plot(ends, ends, color="grey", linewidth=1)
    axes.fill_between(ends, ends * (1 - report["limit"]), ends * (1 + report["limit"]), color="grey", alpha=0.2)
    axes.set(xscale="log", yscale="log", xlabel="p95 wait measured, s", ylabel="p95 wait predicted, s")
    axes.set_title(f"Grey: within {report['limit']:.0%}")
    axes.legend(fontsize=8)


def _waits(axes: Axes, curves: list[Curve]) -> None:
    shares = np.linspace(0.5, 0.999, 120)
    for index, (name, real, predicted) in enumerate(curves):
        axes.plot(np.quantile(real.waits, shares), shares, color=f"C{index}", linewidth=1.2, label=name)
        axes.plot(np.quantile(predicted.waits, shares), shares, color=f"C{index}", linewidth=1.2, linestyle=":")
    axes.axhline(0.95, color="grey", linewidth=0.5)
    axes.set(xlim=(-0.001, None), ylim=(0.5, 1), xlabel="wait, s", ylabel="share of requests that waited no longer")
    axes.set_xscale("symlog", linthresh=0.01)
    axes.set_title("Lines: measured. Dots: predicted")
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1))
