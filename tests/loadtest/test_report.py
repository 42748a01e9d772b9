"""A report's figures and files, from runs that were made up."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from xml.etree import ElementTree

import pytest

from loadtest.cluster import Sample
from loadtest.compare import drift_targets
from loadtest.k6 import Run
from loadtest.plots import plots
from loadtest.probe import Stream
from loadtest.report import read
from loadtest.reporting.document import markdown
from loadtest.reporting.folder import revision, write
from loadtest.run import progress
from loadtest.scenarios import SCENARIOS
from loadtest.summary import blocks
from testbed import ROOT
from tests.support.reports import BEGAN, plan, report, steady
from tests.support.repositories import git

ASKED = [
    (0.0, 2.0, "answered", 1),
    (1.0, 70.0, "answered", 2),  # later than the SLO
    (2.0, 90.0, "timeout", 1),
    (3.0, 0.1, "refused", 4),
    (595.0, 10.0, "answered", 1),  # after the time was over
]
STREAMS = [
    Stream(BEGAN + 1, "answered", 0.5, [0.1, 0.3]),
    Stream(BEGAN + 9, "refused"),
    Stream(BEGAN + 12, "answered", 0.7, []),
]
SAMPLES = [Sample(BEGAN + at, 4, 3 + at // 300, at // 10, 4, {"gateway": 40.0}) for at in range(0, 600, 60)]


def test_goodput_counts_what_was_in_time_and_errors_against_it() -> None:
    made = report(ASKED)
    assert (made["throughput"], made["goodput"], made["answered_share"]) == (
        pytest.approx(2 / 600, abs=1e-4),
        pytest.approx(1 / 600, abs=1e-4),
        0.6,
    )
    assert made["counts"] == {
        "requests": 5,
        "answered": 3,
        "refused": 1,
        "timeout": 1,
        "error": 0,
        "bad_answer": 0,
        "answered_after_retry": 1,
        "dropped": 0,
        "attempts": 9,
        "refusals": 5,
    }
    assert made["latency_s"]["p50"][0] == 10
    assert made["latency_s"]["max"] == 70


def test_thresholds_are_k6s_in_seconds() -> None:
    assert report(ASKED)["targets"] == [
        {"what": "p(95) of asked{outcome:answered}, s", "limit": "<60", "value": 1.2345, "passed": True},
        {"what": "rate of failed", "limit": "<0.1", "value": 0.25, "passed": False},
    ]


def test_streams_are_counted_apart() -> None:
    made = report(ASKED, streams=STREAMS)
    assert made["counts"]["requests"] == 5
    assert made["probe"]["counts"] == {"answered": 2, "refused": 1}
    assert made["probe"]["streams"][:2] == [[1.0, 0.5, 0.2, "answered"], [9.0, None, None, "refused"]]
    assert (made["ttft_s"]["p50"][0], made["itl_s"]["p50"][0]) == (0.6, 0.2)
    assert report(ASKED, api="naive")["probe"] is None


def test_questions_without_an_end_make_a_run_invalid() -> None:
    made = report(ASKED, begun=7)
    assert (made["valid"], made["invalid_because"]) == (False, ["2 questions were cut off at the end"])


def test_an_interrupted_run_is_counted_by_its_own_time_and_invalid() -> None:
    made = report(ASKED, interrupted_after=60.4)
    assert (made["interrupted"], made["valid"], made["seconds"]) == (True, False, 60.4)
    assert made["invalid_because"] == ["interrupted after 60 s of 600 s"]
    assert made["throughput"] == pytest.approx(1 / 60.4, abs=1e-4)
    whole = report(ASKED)
    assert (whole["interrupted"], whole["valid"], whole["seconds"]) == (False, True, 600)


def test_the_files_are_whole_and_the_page_needs_nothing_else(tmp_path: Path) -> None:
    made = report(ASKED, streams=STREAMS, samples=SAMPLES, note="A <model> that is simulated.")
    folder = write(made, blocks(made), tmp_path)
    assert read(folder) == made == json.loads((folder / "report.json").read_text())
    html = (folder / "report.html").read_text()
    assert html.count("<svg") == html.count("</svg>") == 5
    assert "A &lt;model&gt; that is simulated." in html
    assert not re.search(r'(src|href)="(?!#)', html)
    assert "@import" not in html
    assert "url(" not in html.replace("url(#", "")
    text = (folder / "summary.md").read_text()
    assert "**Missed**: rate of failed is 0.25, not <0.1." in text
    assert "| answered | 3: 60.00 % |" in text
    assert "| not answered | 1 refused at the last attempt, 1 timed out |" in text
    assert "A <model> that is simulated." in text


def test_plots_are_the_same_for_the_same_figures_and_only_of_what_there_is() -> None:
    made = report(ASKED, streams=STREAMS, samples=SAMPLES)
    drawn = list(plots(made))
    assert list(plots(made)) == drawn
    assert len(drawn) == 5
    for plot in drawn:
        ElementTree.fromstring(plot.svg)
    assert [len(list(plots(each))) for each in (report(ASKED), report([]))] == [3, 0]


def test_a_summary_of_nothing_says_that_it_is_nothing() -> None:
    text = markdown(blocks(report([])))
    assert "**Invalid**: nothing was asked." in text
    assert "| answered | 0: 0.00 % |" in text


def test_the_command_runs_it_again() -> None:
    made = report(ASKED, rate=1.5, probe=False, out=Path("elsewhere"), note="a b")["command"]
    assert made == (
        "python -m loadtest run --scenario steady --target http://localhost:5000 --model moondream --name a"
        " --rate 1.5 --no-probe --note 'a b'"
    )


def test_a_line_says_how_far_a_run_is() -> None:
    outcomes = [SimpleNamespace(outcome=outcome) for _, _, outcome, _ in ASKED]
    run = SimpleNamespace(asked=outcomes, begun=7, began=SimpleNamespace(result=lambda: BEGAN))
    line = progress(plan(), cast(Run, run), SAMPLES, BEGAN + 61)
    assert line == "1:01 of 10:00 · 2 waiting, 3 answered, 1 refused · 1 failed · 4 of 4 replicas ready, 54 queued"


def test_a_soak_that_ends_as_it_began_has_no_drift() -> None:
    samples = [Sample(BEGAN + at, 1, 1, 0, 1, {"gateway": 40 + at % 3}) for at in range(0, 600, 10)]
    rows = list(drift_targets(steady(1, samples=samples)))
    assert [row["what"] for row in rows] == [
        "answered share, last third less the first",
        "whole answer p50, s, last third less the first",
        "memory of gateway, MiB, last third less the first",
    ]
    assert all(row["passed"] for row in rows)


def test_a_soak_that_leaks_slows_down_and_fails_has_drifted() -> None:
    samples = [Sample(BEGAN + at, 1, 1, 0, 1, {"gateway": 40 + at / 60}) for at in range(0, 600, 10)]
    made = steady(1, samples=samples)
    for each in made["requests"][200:]:
        each[1] *= 1.5
    for each in made["requests"][200::4]:
        each[2] = "error"
    assert [row["passed"] for row in drift_targets(made)] == [False, False, False]


def test_a_report_says_where_and_when_it_was_made() -> None:
    made = report(ASKED, stage="dev", node="c7i.xlarge", digest=f"sha256:{'a' * 64}")
    assert (made["stage"], made["node"], made["digest"]) == ("dev", "c7i.xlarge", f"sha256:{'a' * 64}")
    assert made["started"] == "2023-11-14T22:13:20+00:00"
    assert re.fullmatch(r"[0-9a-f]{12,}(-dirty)?", made["revision"])
    assert plan(time_scale=0.5).seconds == 300


def test_the_shape_of_a_scenario_is_told_by_its_stages() -> None:
    ramp, step = SCENARIOS["ramp"], SCENARIOS["step"]
    assert (ramp.minutes, ramp.peak, ramp.has_rate) == (7, 15, False)
    assert ramp.describe() == (
        "5 to 10 users in 1 min, 10 for 2 min, 10 to 15 in 1 min, 15 for 2 min, 15 to 0 in 1 min"
    )
    assert (step.minutes, step.peak, step.has_rate, step.peak_shares) == (12, 3, True, (1 / 4, 3 / 4))
    assert step.describe() == "1 × the rate for 3 min, 3 × for 6 min, 1 × for 3 min"
    assert step.describe(seconds=360) == "1 × the rate for 90 s, 3 × for 180 s, 1 × for 90 s"
    assert SCENARIOS["steady"].peak_shares == (0, 1)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_can_be_run_and_is_documented(name: str) -> None:
    scenario = SCENARIOS[name]
    assert scenario.loop in ("closed_loop", "open_loop")
    assert scenario.thresholds.keys() <= {"failed", "broken"}
    assert scenario.about.endswith((".", "?"))
    assert scenario.minutes > 0 < scenario.peak
    assert all(minutes >= 0 <= load for minutes, load in scenario.stages)
    assert f"| `{name}` | {scenario.describe()} |" in (ROOT / "docs/load.md").read_text()


def test_prompts_are_enough_that_a_run_meets_each_question_once_before_it_is_varied() -> None:
    prompts = json.loads((ROOT / "loadtest/prompts.json").read_text())
    assert len(set(prompts["questions"])) == len(prompts["questions"]) >= 36
    assert len(set(prompts["manners"])) == len(prompts["manners"]) >= 4


def test_a_checkout_is_dirty_by_its_code_and_not_by_its_reports(tmp_path: Path) -> None:
    assert revision(tmp_path) is None
    code, written = tmp_path / "service" / "app.py", tmp_path / "loadtest" / "reports" / "ramp" / "report.json"
    git(tmp_path, "init", "--quiet")
    for file in (code, written):
        file.parent.mkdir(parents=True)
        file.write_text("before")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "both")
    commit = git(tmp_path, "rev-parse", "--short=12", "HEAD")
    written.write_text("after")
    (tmp_path / "notes").write_text("nobody asked git to keep this")
    assert revision(tmp_path) == commit
    code.write_text("after")
    assert revision(tmp_path) == f"{commit}-dirty"
