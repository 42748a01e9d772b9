"""The report of the real ramp: the rounds of each system counted together, targets, table and plots."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from loadtest.compare import answers_per_second
from loadtest.comparison import report as comparison
from loadtest.comparison.report import NAIVE, SLUICE, Runs, ratio_cell
from loadtest.plan import TIMEOUT
from loadtest.real_ramp.calibration import HELD_USERS
from loadtest.real_ramp.systems import ANSWER_TOKENS
from loadtest.real_ramp.watch import memory_drift
from loadtest.reporting.document import Block, Plot, Table, cell
from loadtest.reporting.figures import GREY, new_figure, svg
from loadtest.reporting.folder import Report, publish
from loadtest.reporting.statistics import CI95, Values, p95, ratio, resamples, rounded, summarise
from loadtest.reporting.target import Target, at_least, at_most

TITLES = {NAIVE: comparison.TITLES[NAIVE], "ollama": "Ollama by its defaults", SLUICE: comparison.TITLES[SLUICE]}
ANSWERED, FASTER, SOONER, FULL = 1.0, 1.8, 0.5, 0.9  # FULL: of the memory limit of Ollama's container
STEADY_SECONDS = 600.0  # a ramp shorter than this only fills the prompt cache, so its memory grows
Run = Mapping[str, Any]  # of one system in one round, as real_ramp.measure() returns it


def write(report: Report, runs: Sequence[Run], *, out: Path) -> int:
    """Write the folder, and return 0 if every target was met."""
    names = [name for name in TITLES if any(run["system"] == name for run in runs)]
    systems = {name: together([run for run in runs if run["system"] == name]) for name in names}
    comparison.add_ratios(systems, ratios)
    report |= {"systems": systems, "targets": targets(systems, report["ollama_limit_mib"], report["ramp_seconds"])}
    return publish(report, blocks(report), out)


def together(runs: Sequence[Run]) -> Report:
    """Return a system's rounds as one run, with what each stretch of each round gave, and memory and engine."""
    reports = [run["report"] for run in runs]
    pooled = comparison.pool(reports)
    counts = pooled["counts"]
    return pooled | {
        "lost_attempts": counts["attempts"] - counts["refusals"] - counts["answered"],
        "wait_s": summarise(list(waits(pooled))),
        "stretches": [[rounded(each) for each in answers_per_second(of_one)] for of_one in reports],
        "engine": [run["engine"] for run in runs],
        "memory": [run["memory"] for run in runs],
        "memory_max_mib": max((engine for run in runs for _, engine, _ in run["memory"]), default=0.0),
        "memory_drift": [_drift(run) for run in runs],
    }


def waits(system: Report) -> Values:
    """Return the seconds from each question to its answer, or until its user gave up."""
    return np.array([took for _, took, _, _ in system["requests"]], dtype=float)


def _drift(run: Run) -> dict[str, Any] | None:
    found = memory_drift(run["memory"], run["report"]["seconds"])
    return {"first_mib": round(found.a, 1), "last_mib": round(found.b, 1), "verdict": found.verdict} if found else None


def ratios(ours: Report, theirs: Report) -> dict[str, Any]:
    """Return the ratios of answers and of the wait's 95th percentile, with their intervals.

    Answers: resampled are stretches of the ramp, the same of both systems, for in the same stretch both had the same
    load. Wait: that of a question that was never answered lasts until its user gave up. Left out, it would make the
    system look best that answers nobody but the first in its queue.
    """
    of_ours, of_theirs = (np.concatenate(run["stretches"]) for run in (ours, theirs))
    rows = np.concatenate(list(resamples(len(of_ours))))
    sums = of_theirs[rows].sum(axis=-1)
    found = np.quantile(of_ours[rows].sum(axis=-1)[sums > 0] / sums[sums > 0], CI95)
    wait, *bounds = ratio(waits(ours), waits(theirs), p95)
    return {
        "throughput": [comparison.throughput_ratio(ours, theirs), *map(rounded, found)],
        "wait_p95": [round(wait, 3), *map(rounded, bounds)],
    }


def targets(systems: Runs, limit_mib: int, seconds: float) -> list[Target]:
    """Return what was to be reached with these systems in ramps of `seconds`."""
    if SLUICE not in systems:
        return []
    ours = systems[SLUICE]
    steady = seconds >= STEADY_SECONDS
    drifts = [each["last_mib"] / each["first_mib"] for each in ours["memory_drift"] if each and steady]
    found = [at_least("answered by Sluice", ours["answered_share"], ANSWERED)]
    if NAIVE in systems:
        compared = systems[NAIVE]["sluice_ratio"]
        found.append(at_least("Sluice’s answers compared with naive", compared["throughput"][0], FASTER))
        found.append(at_most("Sluice’s p95 of the wait compared with naive", compared["wait_p95"][0], SOONER))
    share = round(ours["memory_max_mib"] / limit_mib, 3)
    found.append(at_most("memory of Sluice’s Ollama, share of its container’s limit", share, FULL))
    loads = sum(each["loads"] for each in ours["engine"])
    found.append(at_most("loads of the model during Sluice’s ramps", loads, 0))
    if drifts:
        found.append(at_most("memory of Sluice’s Ollama, last third ÷ first", round(max(drifts), 3), 1.1))
    return comparison.of_valid(systems, found)


def blocks(report: Report) -> Iterator[Block]:
    """Yield the blocks of the report."""
    scale, found = report["time_scale"], report["calibration"]
    yield (
        "The predecessor’s ramp against a real model: 5 to 10 users, then 15, then none, in "
        f"{report['ramp_seconds']:.0f} s; up to 3 retries, after `Retry-After` where there is one. The systems have "
        f"the whole machine in turn, each freshly started; there are {report['rounds']} rounds, each of which begins "
        "with another system. All get the same questions in the same order, with the same seed, and every answer is "
        f"{ANSWER_TOKENS} tokens long."
    )
    yield (
        f"How it was scaled: at the start of this run the naive system, always busy, gave {found['answers']} answers "
        f"in {found['seconds']:g} s, {found['seconds'] / found['answers']:.2f} s each. A client’s patience was set to "
        f"{HELD_USERS} times that, {TIMEOUT * scale:.1f} s an attempt, so that the naive system can just serve the "
        f"ramp’s {HELD_USERS} users, and its 15 are half as many again. The predecessor’s clients waited {TIMEOUT:g} "
        f"s: all times are multiplied by {scale:.3f}{'' if report['whole_ramp'] else ', except that of the ramp'}."
    )
    settings = ", ".join(f"`{name}={value:g}`" for name, value in report["settings"].items())
    changed = ", ".join(f"`{name}={value}`" for name, value in report["changed"].items())
    yield (
        f"Sluice ran as `make serve` starts it: {settings}. "
        f"{f'Set for this run: {changed}' if changed else 'All of them are its defaults'}. Ollama by its defaults, "
        "also behind the naive app, had nothing set but its address and its model store."
    )
    yield table(report["systems"])
    yield Plot(svg(comparison.plot(report["systems"], TITLES)), file="latency")
    yield Plot(svg(memory_plot(report["systems"], report["ollama_limit_mib"])), file="memory")


def table(systems: Runs) -> Table:
    """Return the systems side by side."""
    figures = {
        "questions answered": comparison.answered,
        "answered after a retry": cell("counts", "answered_after_retry"),
        "requests sent": cell("counts", "attempts"),
        "of these refused at once, with `Retry-After`": cell("counts", "refusals"),
        "of these timed out or failed": cell("lost_attempts"),
        "answers that the engine finished": _finished,
        "loads of the model during the ramp": lambda run: str(sum(each["loads"] for each in run["engine"])),
        "answers/min (in each round)": lambda run: (
            f"{60 * run['throughput']:.1f} ({comparison.each_copy(run, 'throughput', 60)})"
        ),
        "wait of all, until the answer or until giving up, p50, s": cell("wait_s", "p50"),
        "wait of all, until the answer or until giving up, p95, s": cell("wait_s", "p95"),
        "wait of those answered, p50, s": cell("latency_s", "p50"),
        "wait of those answered, p95, s": cell("latency_s", "p95"),
        "Sluice’s answers ÷ these": ratio_cell("throughput"),
        "Sluice’s p95 of all ÷ this": ratio_cell("wait_p95"),
        "memory of Ollama at most, MiB": cell("memory_max_mib", spec=".0f"),
        "first → last third of each round": _drifts,
    }
    return Table.columns_of("", {TITLES[name]: run for name, run in systems.items()}, figures)


def _finished(run: Report) -> str:
    lengths = sorted({each["tokens"] for each in run["engine"] if each["tokens"] is not None})
    told = f"{sum(each['answers'] for each in run['engine'])}, of {' or '.join(f'{each:g}' for each in lengths)} tokens"
    return told if lengths else "unknown"


def _drifts(run: Report) -> str:
    found = [f"{each['first_mib']:.0f} → {each['last_mib']:.0f}" for each in run["memory_drift"] if each]
    return ", ".join(found) or "–"


def memory_plot(systems: Runs, limit_mib: int) -> Figure:
    """Return the memory of each system's Ollama over the ramp, a line a round, and the limit of its container."""
    figure, axes = new_figure(9, 2.6)
    for name, run in systems.items():
        for number, samples in enumerate(run["memory"]):
            at, engine, _ = zip(*samples, strict=True)
            label = None if number else TITLES[name].replace("`", "")
            axes.plot(at, engine, color=comparison.COLOURS[name], linewidth=1, label=label)
    axes.axhline(limit_mib, color=GREY, linestyle="--", label=f"limit in a pod, {limit_mib} MiB")
    axes.set(xlabel="s since the start", ylabel="Ollama’s memory, MiB", xlim=(0, None), ylim=(0, None))
    axes.legend(fontsize=7)
    return figure
