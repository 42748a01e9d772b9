"""The report of the real ramp: the rounds of each system counted together, and the targets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import pages
from experiments.comparison_report import NAIVE, SLUICE, plot, pool, target, throughput_ratio
from experiments.real_calibration import HELD_USERS
from experiments.real_ramp_ratios import Systems, wait_ratio, waits
from experiments.real_ramp_tables import TITLES, memory_plot, tables
from experiments.real_systems import ANSWER_TOKENS
from experiments.real_watch import memory_drift
from loadtest.compare import BINS
from loadtest.intervals import summarise
from loadtest.plan import TIMEOUT
from loadtest.report import Report

ANSWERED, FASTER, SOONER, FULL = 1.0, 1.8, 0.5, 0.9  # FULL: of the memory limit of Ollama's container
STEADY_SECONDS = 600.0  # a ramp shorter than this only fills the prompt cache, so its memory grows
Run = Mapping[str, Any]  # of one system in one round, as real_ramp.measure() returns it


def write(report: Report, runs: Sequence[Run], *, out: Path) -> int:
    """Write the folder, and return 0 if every target was met."""
    names = [name for name in TITLES if any(run["system"] == name for run in runs)]
    systems = {name: together([run for run in runs if run["system"] == name]) for name in names}
    report |= {"systems": systems, "targets": targets(systems, report["ollama_limit_mib"], report["ramp_seconds"])}
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
        "wait_s": summarise(list(waits(pooled))),
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


def targets(systems: Systems, limit_mib: int, seconds: float) -> list[dict[str, Any]]:
    """Return what was to be reached with these systems in ramps of `seconds`; with an invalid run nothing was."""
    if SLUICE not in systems:
        return []
    ours = systems[SLUICE]
    steady = seconds >= STEADY_SECONDS
    drifts = [each["last_mib"] / each["first_mib"] for each in ours["memory_drift"] if each and steady]
    found = [target("answered by Sluice", ours["answered_share"], ">=", ANSWERED)]
    if NAIVE in systems:
        found.append(target("Sluice’s answers next to naive", throughput_ratio(systems, NAIVE), ">=", FASTER))
        found.append(target("Sluice’s p95 of the wait next to naive", wait_ratio(systems, NAIVE), "<=", SOONER))
    share = round(ours["memory_max_mib"] / limit_mib, 3)
    found.append(target("memory of Sluice’s Ollama, share of its container’s limit", share, "<=", FULL))
    loads = sum(each["loads"] for each in ours["engine"])
    found.append(target("loads of the model during Sluice’s ramps", loads, "<=", 0))
    if drifts:
        found.append(target("the same, last third next to the first", round(max(drifts), 3), "<=", 1.1))
    for each in found:
        each["kept"] = each["kept"] and all(run["valid"] for run in systems.values())
    return found


def about(report: Report) -> list[str]:
    """Return how it was measured, in paragraphs."""
    scale, found = report["time_scale"], report["calibration"]
    return [
        "The predecessor’s ramp against a real model: 5 to 10 users, then 15, then none, in "
        f"{report['ramp_seconds']:.0f} s; up to 3 retries, after `Retry-After` where there is one. Each system has the "
        f"whole machine in turn, and is started afresh; rounds: {report['rounds']}, each beginning with another one. "
        "All get the same questions in the same order, with the same seed, and every answer is "
        f"{ANSWER_TOKENS} tokens long.",
        f"How it was scaled: at the start of this run the naive system, always busy, gave {found['answers']} answers "
        f"in {found['seconds']:g} s, {found['seconds'] / found['answers']:.2f} s each. A client’s patience was set to "
        f"{HELD_USERS} times that, {TIMEOUT * scale:.1f} s an attempt, so that the naive system just holds the ramp’s "
        f"{HELD_USERS} users, and its 15 are half as many again. The predecessor’s clients waited {TIMEOUT:g} s: "
        f"every time of theirs is multiplied by {scale:.3f}{'' if report['whole_ramp'] else ', but not the ramp’s own'}"
        ".",
        f"Sluice ran as `make serve` starts it: {_settings(report['settings'])}. {_changed(report['changed'])} Ollama "
        "by its defaults, also behind the naive app, had nothing set but its address and its model store.",
    ]


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}={value:g}`" for name, value in settings.items())


def _changed(changed: Mapping[str, str]) -> str:
    if not changed:
        return "All of them are its defaults."
    return f"Set for this run: {', '.join(f'`{name}={value}`' for name, value in changed.items())}."
