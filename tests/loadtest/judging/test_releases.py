"""Releases whose faults are known, and the report of how they were judged."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from loadtest.judging.experiment import LOADS
from loadtest.judging.releases import FAULTS, GOOD, Release, Trial, deployment, releases
from loadtest.judging.report import blocks, figures, power, targets
from loadtest.judging.smoke import Ending
from loadtest.reporting.document import markdown


def trial(kind: str, ending: Ending, load: float = 1.0, **changes: Any) -> Trial:
    values = {"seconds": 30.0, "answers": 80, "background": 100, "lost": 0, "said": "Passed."}
    return Trial(Release(kind, load), ending, **{**values, **changes})


def test_there_are_as_many_bad_releases_as_good_ones_of_each_kind_and_under_each_load() -> None:
    drawn = releases(50, 50, LOADS, seed=1)
    assert Counter(each.kind for each in drawn) == {GOOD: 50} | dict(zip(FAULTS, (13, 13, 12, 12), strict=True))
    by_load = Counter((each.kind, each.load) for each in drawn)
    assert {by_load[GOOD, load] for load in LOADS} == {12, 13}
    assert {by_load[kind, load] for kind in FAULTS for load in LOADS} == {3, 4}
    assert drawn == releases(50, 50, LOADS, seed=1) != releases(50, 50, LOADS, seed=2)


@pytest.mark.parametrize(
    ("trials", "passed"),
    [
        ([trial(GOOD, Ending.PASSED), trial("5 % errors", Ending.BAD)], [True, True, True, True]),
        ([trial(GOOD, Ending.BAD), trial("5 % errors", Ending.PASSED)], [False, False, True, True]),
        ([trial(GOOD, Ending.BUSY), trial("5 % errors", Ending.BUSY)], [True, False, True, True]),
        (
            [trial(GOOD, Ending.PASSED, seconds=181, lost=1), trial("5 % errors", Ending.BAD)],
            [True, True, False, False],
        ),
        ([trial(GOOD, Ending.PASSED), trial("5 % errors", Ending.BAD, lost=9)], [True, True, True, True]),
    ],
)
def test_the_targets_are_met_or_not_by_the_trials(trials: list[Trial], passed: list[bool]) -> None:
    assert [each["passed"] for each in targets(trials)] == passed


def test_the_table_has_a_row_for_each_kind() -> None:
    trials = [trial(GOOD, Ending.PASSED, 0.5), trial(GOOD, Ending.BAD, 3, seconds=60.0)]
    report = {"loads": [0.5, 3], "time_scale": 0.25, "kinds": [figures(GOOD, trials), figures("5 % errors", [])]}
    text = markdown(blocks(report))
    assert "| good | 2 | 1 | 50 % (10 to 90) | 0 of 1 at 0.5 ×, 1 of 1 at 3 × | 80 | 45 | 60 |" in text
    assert "| 5 % errors | 0 | 0 | 0 % (0 to 100) |  | – | – | – |" in text


def test_the_more_answers_a_second_the_surer_a_share_of_failures_is_found() -> None:
    _, *rows = power().rows
    assert [row[0] for row in rows] == ["0.5", "1", "2", "4"]
    found = [[float(cell.removesuffix(" %")) for cell in row[1:]] for row in rows]
    assert all(good < 1.25 for good, *_ in found)
    assert [five for _, five, _ in found] == sorted(five for _, five, _ in found)
    assert found[2][1] > 95


def test_a_good_release_passes_under_load_and_one_with_a_wrong_template_is_bad(k6: str, tmp_path: Path) -> None:
    with deployment(tmp_path / "one", scale=0.1, seed=1) as judged:
        good = judged.judge(Release(GOOD, 3.0))
        assert (good.ending, good.lost) == (Ending.PASSED, 0), good.said
        assert good.background > 0
        bad = judged.judge(Release("wrong template", 1.0))
    assert bad.bad, bad.said
    assert "answers were wrong where the live release is right: a good release has 5 %" in bad.said
