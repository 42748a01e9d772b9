"""What the reports of the autoscaling experiments have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields

from matplotlib.axes import Axes

from loadtest.autoscaling.arms import Outcome
from loadtest.autoscaling.observer import Sample
from loadtest.facts import facts
from loadtest.on_cluster.stages import SECONDS, VARIATION
from loadtest.reporting.document import Plot
from loadtest.reporting.figures import BLUE, GREEN, GREY, OUTCOME_COLOURS, RED, YELLOW, new_figure, steps, svg
from loadtest.reporting.folder import Report

SAMPLE = [field.name for field in fields(Sample)]
PODS, WORK = {"pods": GREY, "ready": GREEN, "wanted": RED}, {"in_flight": BLUE, "queued": YELLOW}
AFTER = 30  # seconds that are shown after the last question


def new_report(name: str, arguments: Sequence[str], *, seconds: float, cpus: float = 0) -> Report:
    """Return a report with what it says of how it was made.

    seconds: the mean service time. cpus: what a generation uses.
    """
    does = f"uses {cpus:g} of a CPU, where a generation takes all CPUs that its pod has" if cpus else "sleeps"
    report = facts(name, ["autoscaling", *arguments], scale=seconds / SECONDS)
    report["simulated"] = (
        f"the engine: a stand-in for Ollama takes {seconds:g} s on average (lognormal, deviation {VARIATION:g} of the "
        f"mean, at most 3 x the mean, drawn from the prompt), one slot a pod; while it generates it {does}; no node "
        "has to start, and no image to be pulled"
    )
    report["real"] += "; HorizontalPodAutoscaler, metrics-server (every 15 s) and KEDA among them"
    return report


def add_traces(report: Report, outcomes: Mapping[str, Outcome]) -> None:
    """Add what the plots show: requests as in a report of loadtest/, and the looks at the cluster."""
    for name, outcome in outcomes.items():
        run, samples = outcome.report, outcome.seen.samples
        report |= {"slo_s": run["slo_s"], "run_seconds": run["seconds"], f"requests_{name}": run["requests"]}
        report[f"samples_{name}"] = [[round(each.at - outcome.began, 1), *astuple(each)[1:]] for each in samples]


def over_time(report: Report, names: Sequence[str], *, high_load: Sequence[float] = ()) -> Plot:
    """Return replicas, queue and latency over time, a column a run. high_load: from when to when, in seconds."""
    figure, grid = new_figure(3.6 * len(names) + 2, 6.6, 3, len(names), sharex=True, sharey="row", squeeze=False)
    for (pods, work, latency), name in zip(grid.T, names, strict=True):
        pods.set_title(name if len(names) > 1 else "")
        samples = [dict(zip(SAMPLE, each, strict=True)) for each in report[f"samples_{name}"]]
        for axes, colours in ((pods, PODS), (work, WORK)):
            steps(axes, samples, colours, linewidth=1.2, rasterized=True)
        _latency(latency, report[f"requests_{name}"], report["slo_s"])
        for axes in (pods, work, latency):
            if high_load:
                axes.axvspan(*high_load, color=GREY, alpha=0.08, linewidth=0)
            axes.locator_params(nbins=5)
        latency.set(xlabel="s", xlim=(0, report["run_seconds"] + AFTER))
    for axes, label in zip(grid[:, 0], ("pods", "requests", "s until the answer"), strict=True):
        axes.set(ylabel=label, ylim=(0, 1.25 * axes.get_ylim()[1]))
        axes.legend(fontsize=7, loc="upper right", ncols=3)
    return Plot(svg(figure), file="over-time")


def _latency(axes: Axes, requests: Sequence[Sequence[object]], slo: float) -> None:
    for name, colour in OUTCOME_COLOURS.items():
        found = [(started, took) for started, took, what, _ in requests if what == name]
        if found:
            label = name.replace("_", " ")
            axes.plot(*zip(*found, strict=True), ".", markersize=3, color=colour, label=label, rasterized=True)
    axes.axhline(slo, color=GREY, linestyle="--", linewidth=1, label="SLO")
