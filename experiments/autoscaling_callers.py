"""The report of callers who ask where no pod is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import pages
from experiments.autoscaling_report import Report, targets_table, text
from experiments.autoscaling_zero import CALLERS, STARTS, total

VISITS = 4  # of a client of loadtest/: it comes back three times
TIMES = {"wanted": "a pod is wanted, s", "created": "created, s", "ready": "ready, s"}
ABOUT = (
    f"{CALLERS} callers ask at once where no pod is (KEDA, minimum 0) and come back when Retry-After says, as often as "
    "it takes. HAProxy holds a request for up to 31 s, as its queue would; it goes on as soon as a pod is ready. A "
    "column a start: on a node that is there, and one that takes as long as if a node had to come first."
)


def write_zero(report: Report, runs: dict[str, Any], out: Path) -> bool:
    """Write what callers got, and return whether each had its answer within the usual visits."""
    report["runs"] = runs
    calls = [call for run in runs.values() for call in run["callers"]]
    answered = sum(total(call) is not None for call in calls)
    visits = max(len(call) for call in calls)
    report["targets"] = [
        {"what": "callers answered", "limit": f">={len(calls)}", "value": answered, "kept": answered == len(calls)},
        {"what": "visits of a caller", "limit": f"<={VISITS}", "value": visits, "kept": visits <= VISITS},
    ]
    pages.write(report, about=[ABOUT], tables=tables(report), figures={}, out=out)
    return all(target["kept"] for target in report["targets"])


def tables(report: Report) -> list[list[pages.Row]]:
    """Return a column for each kind of start, and the targets."""
    runs = report["runs"].values()
    rows: list[pages.Row] = [["", *(f"the model loads {STARTS[name]} s" for name in report["runs"])]]
    rows += [[title, *(text(run[name]) for run in runs)] for name, title in TIMES.items()]
    for number in range(CALLERS):
        rows.append([f"caller {number + 1}", *(visits(run["callers"][number]) for run in runs)])
    return [rows, targets_table(report)]


def visits(call: Sequence[Mapping[str, Any]]) -> str:
    """Return what a caller got, visit by visit, and how long it took in all."""
    end = total(call)
    said = "; ".join(
        f"{each['status']} after {each['took']:g} s"
        + (f", back in {each['retry_after']} s" if each["retry_after"] else "")
        for each in call
    )
    return f"{said}: **no answer**" if end is None else f"{said}: {end:g} s in all"
