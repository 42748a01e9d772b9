"""The tables and plots of the real ramp's report."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from experiments import pages
from experiments.comparison_report import COLOURS, NAIVE, SLUICE, targets_table, throughput_ratio
from experiments.real_ramp_ratios import Systems, throughput_interval, wait_interval, wait_ratio
from loadtest.plots import GREY
from loadtest.report import Report

TITLES = {NAIVE: "Flask’s server calling `ollama.chat`", "ollama": "Ollama by its defaults", SLUICE: "Sluice"}


def tables(report: Report) -> list[list[pages.Row]]:
    """Return the systems side by side, and the targets."""
    systems: dict[str, Report] = report["systems"]
    rows: list[pages.Row] = [["", *(TITLES[name] for name in systems)]]
    rows += _counts(systems) + _times(systems) + _ratios(systems) + _memory(systems)
    return [rows, targets_table(report)] if report["targets"] else [rows]


def _counts(systems: Systems) -> list[pages.Row]:
    shares = [f"{100 * run['answered_share']:.1f} % of {run['counts']['requests']}" for run in systems.values()]
    names = {"answered after a retry": "answered_after_retry", "requests sent": "attempts"}
    names |= {"of these refused at once, with `Retry-After`": "refusals"}
    rows = [[title, *(str(run["counts"][name]) for run in systems.values())] for title, name in names.items()]
    lost = ["of these timed out or failed", *(str(run["lost_attempts"]) for run in systems.values())]
    made = ["answers that the engine finished", *(_finished(run["engine"]) for run in systems.values())]
    loads = ["loads of the model during the ramp", *(_loads(run["engine"]) for run in systems.values())]
    return [["questions answered", *shares], *rows, lost, made, loads]


def _loads(engine: Sequence[Mapping[str, Any]]) -> str:
    return str(sum(each["loads"] for each in engine))


def _finished(engine: Sequence[Mapping[str, Any]]) -> str:
    tokens = {each["tokens"] for each in engine if each["tokens"] is not None}
    lengths = " or ".join(f"{each:g}" for each in sorted(tokens))
    return f"{sum(each['answers'] for each in engine)}, of {lengths} tokens" if tokens else "unknown"


def _times(systems: Systems) -> list[pages.Row]:
    rates = []
    for run in systems.values():
        each = ", ".join(f"{60 * copy['throughput']:.1f}" for copy in run["copies"])
        rates.append(f"{60 * run['throughput']:.1f} ({each})")
    names = {"wait_s": "wait of all, until the answer or until giving up", "latency_s": "wait of those answered"}
    times = [
        [f"{title}, {share}, s", *("{:.1f} ({:.1f} to {:.1f})".format(*run[name][share]) for run in systems.values())]
        for name, title in names.items()
        for share in ("p50", "p95")
    ]
    return [["answers/min (in each round)", *rates], *times]


def _ratios(systems: Systems) -> list[pages.Row]:
    if SLUICE not in systems:
        return []
    others = [name for name in systems if name != SLUICE]
    faster = [(throughput_ratio(systems, name), *throughput_interval(systems, name)) for name in others]
    sooner = [(wait_ratio(systems, name), *wait_interval(systems, name)) for name in others]
    rows = {"Sluice’s answers next to it": faster, "Sluice’s p95 of all next to it": sooner}
    return [
        [title, *("{:.2f} × ({:.2f} to {:.2f})".format(*each) for each in values), ""] for title, values in rows.items()
    ]


def _memory(systems: Systems) -> list[pages.Row]:
    most = [f"{run['memory_max_mib']:.0f}" for run in systems.values()]
    drifts = [[each for each in run["memory_drift"] if each] for run in systems.values()]
    texts = [", ".join(f"{each['first_mib']:.0f} → {each['last_mib']:.0f}" for each in of) or "–" for of in drifts]
    return [["memory of Ollama at most, MiB", *most], ["first → last third of each round", *texts]]


def memory_plot(systems: Systems, limit_mib: int) -> Figure:
    """Return the memory of each system's Ollama over the ramp, a line a round, and the limit of its container."""
    figure, axes = pages.new_figure(9, 2.6)
    for name, run in systems.items():
        for number, samples in enumerate(run["memory"]):
            label = "" if number else TITLES[name].replace("`", "")
            at, engine = [each[0] for each in samples], [each[1] for each in samples]
            axes.plot(at, engine, color=COLOURS[name], linewidth=1, label=label or None)
    axes.axhline(limit_mib, color=GREY, linestyle="--", label=f"limit in a pod, {limit_mib} MiB")
    axes.set(xlabel="s since the start", ylabel="Ollama’s memory, MiB", xlim=(0, None), ylim=(0, None))
    axes.legend(frameon=False, fontsize=7)
    return figure
