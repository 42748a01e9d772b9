"""The report on predicted and measured queues."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtest.reporting.document import Block, Cell, Plot, Table, cell
from loadtest.reporting.figures import GREY, new_figure, svg
from loadtest.reporting.folder import Report

REAL = "the gateway under gunicorn, HAProxy 3.0 with the stages' configuration, their queues, HTTP and the client"
SIMULATED = "the model, by testbed/stand_in, which takes the time of llama.cpp's steps, scaled down"
METHOD = (
    "The prediction is a simulation of the same arrivals and lengths. It knows only the engine's speeds, which were "
    "measured before in streams through the gateway, alone and in all slots, and how much longer a request holds its "
    "slot at 50 % load. “Other traces” are the simulation's p95 waits for {fresh_traces} traces of the same rate and "
    "lengths with other seeds (median, and 95 % of them): how much luck there is in one run. If the client couldn't "
    "keep time (1 % of its requests over 20 ms late), the run was repeated, at most twice, and the one in which it "
    "kept time best counts, whatever its result. All runs took {seconds} s."
)
SHARES = np.linspace(0.5, 0.999, 120)  # of the requests, whose waits are plotted


def _pair(title: str, name: str, **how: Any) -> dict[str, Cell]:
    return {f"{title} {side}": cell(name, side, **how) for side in ("measured", "predicted")}


MS: dict[str, Any] = {"spec": ".0f", "scale": 1000}
FIGURES = {
    "what queued": cell("case"),
    "load": cell("load", spec=".0%"),
    "requests": cell("requests", spec=","),
    **_pair("p95 wait, ms,", "p95_wait_s", **MS),
    "error": cell("error", spec="+.1%"),
    "other traces": cell("fresh_p95_wait_s", **MS),
    **_pair("mean service, ms,", "mean_service_s", **MS),
    **_pair("p95 latency, ms,", "p95_latency_s", **MS),
    **_pair("refused,", "refused", spec=".1%"),
}


def blocks(report: Report) -> Iterator[Block]:
    """Yield the blocks of the report."""
    yield METHOD.format(**report)
    yield Table.rows_of(report["rows"], FIGURES, numbers=True)
    yield Plot(svg(plot(report)))


def plot(report: Report) -> Figure:
    """Return predicted against measured waits, and the waits of each run."""
    figure, (left, right) = new_figure(13, 4.6, columns=2)
    _scatter(left, report)
    for index, row in enumerate(report["rows"]):
        label = f"{row['case']}, {row['load']:.0%}"
        right.plot(row["waits_s"]["measured"], SHARES, color=f"C{index}", linewidth=1.2, label=label)
        right.plot(row["waits_s"]["predicted"], SHARES, color=f"C{index}", linewidth=1.2, linestyle=":")
    right.axhline(0.95, color=GREY, linewidth=0.5)
    right.set(xlim=(-0.001, None), ylim=(0.5, 1), xlabel="wait, s", ylabel="share of requests that waited no longer")
    right.set_xscale("symlog", linthresh=0.01)
    right.set_title("Lines: measured. Dots: predicted")
    right.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return figure


def _scatter(axes: Axes, report: Report) -> None:
    for case in dict.fromkeys(row["case"] for row in report["rows"]):
        waits = [row["p95_wait_s"] for row in report["rows"] if row["case"] == case]
        axes.plot(*([each[side] for each in waits] for side in ("measured", "predicted")), "o", label=case)
    ends = np.array([0.7, 1.4]) * [f([row["p95_wait_s"]["measured"] for row in report["rows"]]) for f in (min, max)]
    axes.plot(ends, ends, color=GREY, linewidth=1)
    axes.fill_between(ends, ends * (1 - report["limit"]), ends * (1 + report["limit"]), color=GREY, alpha=0.2)
    axes.set(xscale="log", yscale="log", xlabel="p95 wait measured, s", ylabel="p95 wait predicted, s")
    axes.set_title(f"Grey: within {report['limit']:.0%}")
    axes.legend()
