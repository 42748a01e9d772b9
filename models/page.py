"""A comparison as one page of HTML that needs nothing else."""

from html import escape
from typing import Any

from loadtest.document import document, section, table
from models.plots import plots
from models.summary import about, notes, tables

STYLE = """pre { white-space: pre-wrap } div { overflow-x: auto } table { font-size: .85rem }
th, td { padding-right: .8rem }
.wrong { color: #a33 } summary { cursor: pointer }
"""


def page(report: dict[str, Any]) -> str:
    """Return the HTML."""
    first, *others = [
        section(title, f"<div>{table([headings, *rows])}</div>") for title, (headings, rows) in tables(report).items()
    ]
    drawn = [section(title, svg) for title, svg in plots(report["models"]).items()]
    lines = "\n".join(f"<li>{escape(line.replace('**', '').replace('`', ''))}" for line in notes(report))
    parts = [
        f"<p>{escape(about(report).replace('**', ''))}</p>",
        f"<pre>{escape(report['command'])}</pre>",
        first,
        *drawn,
        *others,
        section("What it rests on", f"<ul>{lines}</ul>"),
        section("Every answer", "\n".join(_answers(entry) for entry in report["models"])),
    ]
    return document(report["name"], parts, width="64rem", style=STYLE)


def _answers(entry: dict[str, Any]) -> str:
    lines = [
        f"<tr><td>{escape(id_)}<td{'' if right else ' class=wrong'}>{'right' if right else 'wrong'}<td>{escape(answer)}"
        for id_, right, answer in entry["answers"]
    ]
    head = f"<details><summary>{escape(entry['label'])}</summary>"
    return f"{head}<table>\n" + "\n".join(lines) + "\n</table></details>"
