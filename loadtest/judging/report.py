"""The report of releases whose faults are known: who was taken back, who wasn't, and when."""

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from loadtest.judging.judge import FAILURES
from loadtest.judging.releases import FAULTS, GOOD, SLOTS, TOGETHER, Trial
from loadtest.judging.sequential import characteristics
from loadtest.judging.smoke import Smoke
from loadtest.reporting.document import Block, Table, cell
from loadtest.reporting.folder import Report, publish
from loadtest.reporting.statistics import wilson
from loadtest.reporting.target import Target, at_least, at_most

SIMULATED = (
    f"the model: a stand-in for Ollama with {SLOTS} slots that slow each other as llama.cpp’s do, {TOGETHER:g} tokens/s"
    " each when all are busy; a bad release is one whose stand-in goes wrong, and nothing is restarted between releases"
)
REAL = "the gateway under gunicorn with API keys, k6, the live release's record, all that judges; on one machine"
RATES, SHARES = (0.5, 1, 2, 4), (0.005, 0.05, 0.1)


def write(report: Report, trials: Sequence[Trial], *, out: Path) -> int:
    """Write the folder, and return 0 if error rates and times are as they should be."""
    report |= {"simulated": SIMULATED, "real": REAL}
    report["kinds"] = [
        figures(kind, [each for each in trials if each.release.kind == kind]) for kind in (GOOD, *FAULTS)
    ]
    report["targets"] = list(targets(trials))
    report["trials"] = [
        [each.release.kind, each.release.load, each.ending, round(each.seconds, 1), each.answers, each.lost, each.said]
        for each in trials
    ]
    return publish(report, blocks(report), out)


def figures(kind: str, trials: Sequence[Trial]) -> Report:
    """Return what there is to say of the releases of a kind."""
    taken_back = [each for each in trials if each.bad]
    by_load = Counter(each.release.load for each in taken_back)
    seconds = [each.seconds for each in trials]
    return {
        "kind": kind,
        "releases": len(trials),
        "bad": len(taken_back),
        "share": [round(each, 3) for each in wilson(len(taken_back), len(trials))],
        "by_load": {
            f"{load:g}": [by_load[load], sum(each.release.load == load for each in trials)] for load in _loads(trials)
        },
        "median_s": round(statistics.median(seconds), 1) if seconds else None,
        "longest_s": round(max(seconds), 1) if seconds else None,
        "answers": statistics.median(each.answers for each in trials) if trials else None,
    }


def _loads(trials: Sequence[Trial]) -> list[float]:
    return sorted({each.release.load for each in trials})


def targets(trials: Sequence[Trial]) -> Iterator[Target]:
    """Yield what was asked of the whole."""
    good, bad = ([each for each in trials if (each.release.kind == GOOD) is wanted] for wanted in (True, False))
    yield at_most("good releases taken back", round(sum(each.bad for each in good) / len(good), 3), 0.05)
    yield at_least("bad releases caught", round(sum(each.bad for each in bad) / len(bad), 3), 0.95)
    yield at_most("longest judgement, s", round(max(each.seconds for each in trials), 1), 180)
    yield at_most("others' requests lost during good releases", sum(each.lost for each in good), 0)


def blocks(report: Report) -> Iterator[Block]:
    """Yield the blocks of the report."""
    loads, scale = ", ".join(f"{load:g} ×" for load in report["loads"]), report["time_scale"]
    yield (
        "Releases whose faults are known, judged one after the other, each compared with the last that passed, while "
        f"others ask {loads} of what the pod can answer."
    )
    if scale != 1:
        yield f"All times were multiplied by {scale:g}; those here are as without that."
    yield Table.rows_of(
        report["kinds"],
        {
            "release": cell("kind"),
            "judged": cell("releases"),
            "taken back": cell("bad"),
            "share (95 % interval)": cell("share", spec=".0f", scale=100, unit=" %"),
            "under each load": _by_load,
            "answers, median": cell("answers", spec="g"),
            "s, median": cell("median_s", spec=".0f"),
            "s, longest": cell("longest_s", spec=".0f"),
        },
    )
    yield power()


def _by_load(kind: Report) -> str:
    return ", ".join(f"{bad} of {all_} at {load} ×" for load, (bad, all_) in kind["by_load"].items())


def power() -> Table:
    """Return the share of releases that are taken back for failures, by the answers that they give in a second."""

    def found(rate: float) -> dict[str, Any]:
        return {"rate": rate} | {
            str(share): characteristics(FAILURES, share, int(rate * Smoke.at_most)).bad for share in SHARES
        }

    columns = {
        f"taken back with {100 * share:g} % failures": cell(str(share), spec=".1f", scale=100, unit=" %")
        for share in SHARES
    }
    return Table.rows_of(map(found, RATES), {"answers/s": cell("rate"), **columns}, title="Computed: failures alone")
