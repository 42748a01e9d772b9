"""A report as one page of HTML that needs nothing else."""

from html import escape

from loadtest.document import document, section
from loadtest.plots import plots
from loadtest.report import Report
from loadtest.summary import rows, verdict

ABOUT = ("command", "scenario", "target", "model", "stage", "node", "digest", "revision", "started", "seconds")
STYLE = "td:first-child { white-space: nowrap }\n"


def page(report: Report) -> str:
    """Return the HTML."""
    thresholds = [
        (each["what"], f"{each['value']:g}, limit {each['limit']}: {_kept(each)}") for each in report["thresholds"]
    ]
    about = {name: report[name] for name in ABOUT if report[name]} | report["settings"] | report["client"]
    tables = [_section("Figures, with 95 % intervals", rows(report)), _section("Thresholds", thresholds)]
    last = _section("What was run", [(name.replace("_", " "), str(value)) for name, value in about.items()])
    note = f"<p>{escape(report['note'])}</p>" if report["note"] else ""
    drawn = [section(title, svg) for title, svg in plots(report).items()]
    parts = [f"<p>{escape(verdict(report).replace('**', ''))}</p>", note, *tables, *drawn, last]
    return document(report["name"], parts, width="54rem", style=STYLE)


def _section(title: str, pairs: list[tuple[str, str]]) -> str:
    lines = "\n".join(f"<tr><td>{escape(name)}<td>{escape(text)}" for name, text in pairs)
    return section(title, f"<table>\n{lines}\n</table>")


def _kept(threshold: dict[str, object]) -> str:
    return "kept" if threshold["kept"] else "broken"
