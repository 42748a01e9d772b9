"""The report of the real ramp: the rounds of each system counted together, targets, tables and plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import pages
from experiments.comparison_report import (
    COLOURS,
    NAIVE,
    SLUICE,
    latency_interval,
    latency_ratio,
    plot,
    pool,
    target,
    targets_table,
    throughput_ratio,
)
from experiments.real_calibration import HELD_USERS
from experiments.real_systems import ANSWER_TOKENS
from experiments.real_watch import memory_drift
from loadtest.compare import BINS
from loadtest.intervals import INSIDE, draws
from loadtest.plan import TIMEOUT
from loadtest.report import Report

TITLES = {NAIVE: "Flask’s server calling `ollama.chat`", "ollama": "Ollama by its defaults", SLUICE: "Sluice"}
ANSWERED, FASTER, SOONER, FULL = 1.0, 1.8, 0.5, 0.9  # FULL: of the memory limit of Ollama's container
Run = Mapping[str, Any]  # of one system in one round, as real_ramp.measure() returns it
Systems = Mapping[str, Report]


def write(report: Report, runs: Sequence[Run], *, out: Path) -> int:
    """Write the folder, and return 0 if every target was met."""
    names = [name for name in TITLES if any(run["system"] == name for run in runs)]
    systems = {name: together([run for run in runs if run["system"] == name]) for name in names}
    report |= {"systems": systems, "targets": targets(systems, report["ollama_limit_mib"])}
    figures = {"latency": plot(systems, TITLES), "memory": memory_plot(systems, report["ollama_limit_mib"])}
    pages.write(report, about=about(report), tables=tables(report), figures=figures, out=out)
    return 0 if all(each["kept"] for each in report["targets"]) else 1


def together(runs: Sequence[Run]) -> Report:
    """Return a system's rounds as one run, with what each stretch of each round gave, and memory and engine."""
    reports = [run["report"] for run in runs]
    pooled = pool(reports)
    counts = pooled["counts"]
    return pooled | {
        "lost_attempts": counts["attempts"] - counts["refusals"] - counts["answered"],
        "stretches": [_stretches(each) for each in reports],
        "engine": [run["engine"] for run in runs],
        "memory": [run["memory"] for run in runs],
        "memory_max_mib": max((engine for run in runs for _, engine, _ in run["memory"]), default=0.0),
        "memory_drift": [_drift(run) for run in runs],
    }


def _stretches(report: Report) -> list[float]:
    """Return the answers a second in each of so many equal stretches of a ramp."""
    ends = [each[0] + each[1] for each in report["requests"] if each[2] == "answered"]
    counts, _ = np.histogram(ends, bins=BINS, range=(0, report["seconds"]))
    return [round(float(count) * BINS / report["seconds"], 4) for count in counts]


def _drift(run: Run) -> dict[str, Any] | None:
    row = memory_drift(run["memory"], run["report"]["seconds"])
    return {"first_mib": round(row.a, 1), "last_mib": round(row.b, 1), "verdict": row.verdict} if row else None


def targets(systems: Systems, limit_mib: int) -> list[dict[str, Any]]:
    """Return what was to be reached with these systems, and whether it was: with an invalid run nothing is."""
    if SLUICE not in systems:
        return []
    ours = systems[SLUICE]
    drifts = [each["last_mib"] / each["first_mib"] for each in ours["memory_drift"] if each]
    found = [target("answered by Sluice", ours["answered_share"], ">=", ANSWERED)]
    if NAIVE in systems:
        found.append(target("Sluice’s answers next to naive", throughput_ratio(systems, NAIVE), ">=", FASTER))
        found.append(target("Sluice’s p95 next to naive", latency_ratio(systems, NAIVE), "<=", SOONER))
    share = round(ours["memory_max_mib"] / limit_mib, 3)
    found.append(target("memory of Sluice’s Ollama, share of its container’s limit", share, "<=", FULL))
    if drifts:
        found.append(target("the same, last third next to the first", round(max(drifts), 3), "<=", 1.1))
    for each in found:
        each["kept"] = each["kept"] and all(run["valid"] for run in systems.values())
    return found


def throughput_interval(systems: Systems, other: str) -> tuple[float, float]:
    """Return the interval that chance leaves to the ratio of answers, 95 % of it, by bootstrap.

    Drawn are stretches of the ramp, the same of both systems: in the same stretch both had the same load.
    """
    ours, theirs = (np.concatenate(systems[name]["stretches"]) for name in (SLUICE, other))
    rows = np.concatenate(list(draws(len(ours))))
    sums = theirs[rows].sum(axis=-1)
    ratios = ours[rows].sum(axis=-1)[sums > 0] / sums[sums > 0]
    low, high = np.quantile(ratios, INSIDE)
    return float(low), float(high)


def about(report: Report) -> list[str]:
    """Return how it was measured, in paragraphs."""
    scale, found = report["time_scale"], report["calibration"]
    return [
        f"The predecessor’s ramp against a real model: 5 to 10 users, then 15, then none, in {report['ramp_seconds']:g}"
        f" s; up to 3 retries, after `Retry-After` where there is one. Each system has the whole machine in turn, and "
        f"is started afresh; {report['rounds']} rounds, each beginning with another one. All get the same questions "
        f"in the same order, with the same seed, and every answer is {ANSWER_TOKENS} tokens long.",
        f"How it was scaled: at the start of this run the naive system, always busy, gave {found['answers']} answers "
        f"in {found['seconds']:g} s, {found['seconds'] / found['answers']:.2f} s each. A client’s patience was set to "
        f"{HELD_USERS} times that, {TIMEOUT * scale:.1f} s an attempt, so that the naive system just holds the ramp’s "
        f"{HELD_USERS} users, and its 15 are half as many again. The predecessor’s clients waited {TIMEOUT:g} s: "
        f"every time of theirs is multiplied by {scale:.3f}, except for the length of the ramp.",
        f"Sluice ran as `make serve` starts it: {_settings(report['settings'])}. {_changed(report['changed'])} Ollama "
        "by its defaults, also behind the naive app, had nothing set but its address and its model store.",
    ]


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}={value:g}`" for name, value in settings.items())


def _changed(changed: Mapping[str, str]) -> str:
    if not changed:
        return "All of them are its defaults."
    return f"Set for this run: {', '.join(f'`{name}={value}`' for name, value in changed.items())}."


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
    return [["questions answered", *shares], *rows, lost, made]


def _finished(engine: Sequence[Mapping[str, Any]]) -> str:
    tokens = {each["tokens"] for each in engine if each["tokens"] is not None}
    lengths = " or ".join(f"{each:g}" for each in sorted(tokens))
    return f"{sum(each['answers'] for each in engine)}, of {lengths} tokens" if tokens else "unknown"


def _times(systems: Systems) -> list[pages.Row]:
    rates = []
    for run in systems.values():
        each = ", ".join(f"{60 * copy['throughput']:.1f}" for copy in run["copies"])
        rates.append(f"{60 * run['throughput']:.1f} ({each})")
    times = {
        name: ["{:.1f} ({:.1f} to {:.1f})".format(*run["latency_s"][name]) for run in systems.values()]
        for name in ("p50", "p95")
    }
    return [
        ["answers/min (in each round)", *rates],
        *([f"wait of those answered, {name}, s (95 % interval)", *values] for name, values in times.items()),
    ]


def _ratios(systems: Systems) -> list[pages.Row]:
    if SLUICE not in systems:
        return []
    others = [name for name in systems if name != SLUICE]
    faster = [(throughput_ratio(systems, name), *throughput_interval(systems, name)) for name in others]
    sooner = [(latency_ratio(systems, name), *latency_interval(systems, name)) for name in others]
    rows = {"Sluice’s answers next to it": faster, "Sluice’s p95 next to it": sooner}
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
    axes.axhline(limit_mib, color="#888888", linestyle="--", label=f"limit in a pod, {limit_mib} MiB")
    axes.set(xlabel="s since the start", ylabel="Ollama’s memory, MiB", xlim=(0, None), ylim=(0, None))
    axes.legend(frameon=False, fontsize=7)
    return figure
