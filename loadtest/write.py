"""A report's three files: report.json for machines, summary.md for a comment, report.html with the plots."""

import json
from pathlib import Path

from loadtest.page import page
from loadtest.report import Report
from loadtest.summary import summary


def write(report: Report, out: Path) -> Path:
    """Write the files into the folder of the report's name in `out`, and return that folder."""
    folder: Path = out / report["name"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(as_json(report))
    (folder / "summary.md").write_text(summary(report))
    (folder / "report.html").write_text(page(report))
    return folder


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
