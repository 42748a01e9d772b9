"""A report's folder: report.json for machines, summary.md for a comment, report.html with the plots."""

import json
import os
import platform
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from delivery.git import attempt
from loadtest.reporting.document import Block, Code, Plot, markdown, page
from loadtest.reporting.reserve import REPORTS
from loadtest.reporting.target import all_passed, targets_table

FORMAT = 2
ROOT = Path(__file__).parent.parent.parent
Report = dict[str, Any]


def new_report(name: str, command: Sequence[str]) -> Report:
    """Return what every report begins with: its name, and how it was made. command: what follows `python -m`."""
    return {
        "format": FORMAT,
        "name": name,
        "command": shlex.join(["python", "-m", *command]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": revision(),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
    }


def write(report: Report, blocks: Iterable[Block], out: Path) -> Path:
    """Write the files into the folder of the report's name in `out`, and return that folder.

    After the blocks come its targets, then the plots, and how it was made.
    """
    folder: Path = out / report["name"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(as_json(report))
    shown = [*blocks, targets_table(report.get("targets", []))]
    shown = [*sorted(shown, key=lambda block: isinstance(block, Plot)), *_provenance(report)]
    (folder / "summary.md").write_text(markdown(shown, report["name"]) + "\n")
    (folder / "report.html").write_text(page(shown, report["name"]))
    for plot in shown:
        if isinstance(plot, Plot) and plot.file:
            (folder / f"{plot.file}.svg").write_text(plot.svg)
    return folder


def _provenance(report: Mapping[str, Any]) -> Iterator[Block]:
    for name in ("simulated", "real"):
        if name in report:
            yield f"{name.title()}: {report[name]}."
    if report.get("note"):
        yield report["note"]
    busy = f" that were busy for {100 * report['cpu_busy']:.0f} % of the time" if "cpu_busy" in report else ""
    machine = f" ({report['machine']})" if "machine" in report else ""
    yield Code(report["command"])
    yield f"Started at {report['started']}, revision {report['revision']}, on {report['cpus']} CPUs{machine}{busy}."


def publish(report: Report, blocks: Iterable[Block], out: Path) -> int:
    """Write the folder, print its summary, and return 0 if the report is valid and every target was met, else 1."""
    folder = write(report, blocks, out)
    print(f"{(folder / 'summary.md').read_text()}\nThe whole report is {folder / 'report.html'}.", flush=True)
    return 0 if report.get("valid", True) and all_passed(report.get("targets", [])) else 1


def as_json(report: Report) -> str:
    """Return the report as JSON, with a line a field and a line an item of its lists."""
    lines = []
    for name, value in report.items():
        if isinstance(value, list) and value and not isinstance(value[0], str):
            text = "[\n  " + ",\n  ".join(json.dumps(item) for item in value) + "\n ]"
        else:
            text = json.dumps(value)
        lines.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def revision(checkout: Path = ROOT) -> str | None:
    """Return the commit of a checkout, with `-dirty` if files differ from it; None if it is none.

    Reports don't count: one command writes several, and the first would make the second's checkout dirty.
    """
    status = ("status", "--porcelain", "--untracked-files=no", "--", ".", f":!{REPORTS}")
    try:
        commit, changed = attempt(checkout, "rev-parse", "--short=12", "HEAD"), attempt(checkout, *status)
    except FileNotFoundError:
        return None
    if commit.returncode:
        return None
    return commit.stdout.strip() + ("-dirty" if changed.stdout else "")
