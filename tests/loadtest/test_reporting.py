"""How reports are written, and that the committed ones are what the code makes of their data."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from loadtest import summary
from loadtest.autoscaling import ramp, step, zero
from loadtest.balancing import report as balancing
from loadtest.comparison import report as comparison
from loadtest.judging import report as judging
from loadtest.models import summary as models_summary
from loadtest.real_ramp import report as real_ramp
from loadtest.reporting.document import Block, Code, Plot, Table, cell, markdown, page
from loadtest.reporting.folder import FORMAT, as_json, write
from loadtest.reporting.reserve import REPORTS
from loadtest.reporting.target import all_passed, at_least, at_most, new_target, targets_table
from planning import validation_report
from testbed import ROOT

COMMITTED: dict[str, Callable[[Any], Iterable[Block]]] = {
    "autoscaling": step.blocks,
    "balancing": balancing.blocks,
    "from-zero": zero.blocks,
    "judging": judging.blocks,
    "models": models_summary.blocks,
    "plan": validation_report.blocks,
    "ramp-10": comparison.blocks,
    "ramp-4": comparison.blocks,
    "ramp-4-constant": comparison.blocks,
    "ramp-autoscaled": ramp.blocks,
    "real-ramp": real_ramp.blocks,
    "real-ramp-memory": real_ramp.blocks,
    "soak": summary.blocks,
    "stress": summary.blocks,
}


def without_plots(html: str) -> str:
    return re.sub(r"<svg .*?</svg>", "", html, flags=re.DOTALL)


def test_every_committed_report_is_known() -> None:
    assert {folder.name for folder in (ROOT / REPORTS).iterdir()} == set(COMMITTED)


@pytest.mark.parametrize("name", COMMITTED)
def test_a_committed_report_is_what_the_code_makes_of_its_data(name: str, tmp_path: Path) -> None:
    committed = ROOT / REPORTS / name
    report = json.loads((committed / "report.json").read_text())
    folder = write(report, COMMITTED[name](report), tmp_path)
    assert report["format"] == FORMAT
    for file in ("report.json", "summary.md"):
        assert (folder / file).read_text() == (committed / file).read_text(), file
    made, kept = ((each / "report.html").read_text() for each in (folder, committed))
    assert without_plots(made) == without_plots(kept)
    assert made.count("<svg") == kept.count("<svg")
    assert {file.name for file in folder.iterdir()} == {file.name for file in committed.iterdir()}


def test_a_report_says_what_it_was_to_reach_before_its_plots_and_last_how_it_was_made(tmp_path: Path) -> None:
    report = {
        "name": "trial",
        "command": "python -m trial",
        "started": "today",
        "revision": "abc",
        "cpus": 2,
        "simulated": "the engine",
        "real": "the rest",
        "note": "It rained.",
        "targets": [at_least("answered", 1.0, 1)],
    }
    blocks: list[Block] = ["First.", Plot("<svg></svg>", title="A plot"), Table([["a"], ["b"]], title="A table")]
    text = (write(report, blocks, tmp_path) / "report.html").read_text()
    order = ("First.", "A table", "answered", "A plot", "Simulated: the engine.", "Real: the rest.", "It rained.")
    places = [text.index(each) for each in (*order, "<pre>python -m trial</pre>", "Started at today, revision abc")]
    assert places == sorted(places)


def test_tables_are_made_of_figures_either_way_round() -> None:
    things = {"first": {"x": 1, "y": {"z": 0.5}}, "second": {"x": 20, "y": {"z": None}}}
    figures = {"X": cell("x"), "Z": cell("y", "z", spec=".2f", unit=" s", missing="never")}
    assert Table.columns_of("", things, figures).rows == [
        ["", "first", "second"],
        ["X", "1", "20"],
        ["Z", "0.50 s", "never"],
    ]
    assert Table.rows_of(things.values(), figures).rows == [["X", "Z"], ["1", "0.50 s"], ["20", "never"]]


@pytest.mark.parametrize(
    ("value", "how", "text"),
    [
        (395, {}, "395"),
        (26.0, {}, "26"),
        (None, {}, "–"),
        ("as it is", {}, "as it is"),
        ([1.0, 0.5, 2.25], {}, "1.0 (0.5 to 2.2)"),
        ([3.0, 3.0, 3.0], {}, "3.0"),
        ([0.1, 0.05, 0.2], {"scale": 1000, "spec": ".0f", "unit": " ms"}, "100 ms (50 to 200)"),
    ],
)
def test_a_figure_reads_as_people_write_it(value: Any, how: dict[str, Any], text: str) -> None:
    assert cell("it", **how)({"it": value}) == text


def test_what_a_report_says_is_escaped_but_for_bold_and_code() -> None:
    tables = [Table([["head"], ["<i>|**x**"]]), Table([["only a head"]])]
    blocks: list[Block] = ["A <b> & **bold** `<code>`.", Code("a < b"), *tables]
    html = page(blocks, "1 < 2")
    assert "<h1>1 &lt; 2</h1>" in html
    assert "<p>A &lt;b&gt; &amp; <strong>bold</strong> <code>&lt;code&gt;</code>.</p>" in html
    assert "<td>&lt;i&gt;|<strong>x</strong>" in html
    assert "<pre>a &lt; b</pre>" in html
    text = markdown(blocks, "1 < 2")
    assert text.startswith("# 1 < 2\n\nA <b> & **bold**")
    assert "| <i>/**x** |" in text
    assert "only a head" not in html + text


def test_a_folded_table_is_on_the_page_alone() -> None:
    folded = Table([["head"], ["cell"]], title="All of it", folded=True)
    assert "<summary>All of it</summary>" in page([folded], "x")
    assert markdown([folded]) == ""


def test_targets_are_passed_at_their_limits() -> None:
    targets = [at_least("a", 1.0, 1.0), at_most("b", 2, 1), new_target("c", "3 of 4", "all", False)]
    assert [each["passed"] for each in targets] == [True, False, False]
    assert not all_passed(targets)
    assert all_passed(targets[:1])
    assert [list(row) for row in targets_table(targets).rows[1:]] == [
        ["a", "1", "≥ 1", "passed"],
        ["b", "2", "≤ 1", "**failed**"],
        ["c", "3 of 4", "all", "**failed**"],
    ]


def test_a_report_is_a_line_a_field_and_a_line_an_item() -> None:
    report = {"name": "x", "requests": [[1, 2], [3, 4]], "words": ["a", "b"], "none": []}
    text = as_json(report)
    assert json.loads(text) == report
    assert text == (
        '{\n "name": "x",\n "requests": [\n  [1, 2],\n  [3, 4]\n ],\n "words": ["a", "b"],\n "none": []\n}\n'
    )
