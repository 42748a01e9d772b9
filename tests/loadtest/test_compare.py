"""Two reports side by side: what is noise, what is a regression, and what can't be compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import InputError
from loadtest import __main__ as command
from loadtest.compare import Comparison, compare
from loadtest.reporting.folder import as_json
from loadtest.reporting.statistics import difference, mean, summarise
from tests.support.reports import report, steady


def verdicts(*rows: Comparison) -> dict[str, str]:
    return {row.name.partition(",")[0]: row.verdict for row in rows}


def test_two_runs_of_the_same_system_are_the_same() -> None:
    found = verdicts(*compare(steady(1), steady(2)))
    assert set(found.values()) == {"same"}
    assert list(found) == [
        "answered share",
        "throughput",
        "goodput",
        "whole answer p50",
        "whole answer p95",
        "first token p50",
        "first token p95",
    ]


def test_slower_answers_are_worse_and_faster_ones_better() -> None:
    slower, faster = compare(steady(1), steady(2, seconds=1.5)), compare(steady(1, seconds=1.5), steady(2))
    for name in ("whole answer p50", "whole answer p95", "first token p50"):
        assert (verdicts(*slower)[name], verdicts(*faster)[name]) == ("worse", "better")
    assert verdicts(*slower)["throughput"] == "same"  # the rate is what it was


def test_answers_that_are_missing_are_worse_and_cost_throughput() -> None:
    found = verdicts(*compare(steady(1), steady(2, failing=0.2)))
    assert (found["answered share"], found["throughput"], found["goodput"]) == ("worse", "worse", "worse")
    assert found["whole answer p50"] == "same"


def test_one_failure_is_noise_and_many_are_not_however_few_they_are_in_a_hundred() -> None:
    whole = steady(1, count=1000)
    few = [steady(2, count=1000) for _ in range(2)]
    few[0]["requests"][500][2] = "error"
    for index in range(0, 1000, 50):
        few[1]["requests"][index][2] = "error"
    assert [verdicts(*compare(whole, each))["answered share"] for each in few] == ["same", "worse"]


def test_a_difference_within_the_tolerance_is_none() -> None:
    a, b = steady(1, count=3000), steady(2, seconds=1.08, count=3000)
    assert verdicts(*compare(a, b, 0.2))["whole answer p50"] == "same"
    assert verdicts(*compare(a, b, 0.0))["whole answer p50"] == "worse"


def test_late_answers_cost_goodput_only() -> None:
    a, b = steady(1), steady(2)
    for each in b["requests"][:150]:
        each[1] += 61
    found = verdicts(*compare(a, b))
    assert (found["throughput"], found["goodput"]) == ("same", "worse")


def test_a_stream_that_neither_run_had_is_left_out() -> None:
    names = verdicts(*compare(steady(1, api="naive"), steady(2, api="naive")))
    assert "first token p50" not in names


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scenario": "soak", "minutes": 10}, "scenario is steady in A and soak in B"),
        ({"model": "llava"}, "model is moondream in A and llava in B"),
        ({"minutes": 5}, "seconds is 600 in A and 300 in B"),
        ({"rate": 0.5}, "rate is 0.25 in A and 0.5 in B"),
        ({"retries": 0}, "retries is 3 in A and 0 in B"),
        ({"probe": False}, "probe is True in A and False in B"),
    ],
)
def test_runs_that_differ_are_refused_with_what_differs(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=rf"^these runs can't be compared: {reason}$"):
        compare(steady(1), steady(2, **changes))


def test_an_invalid_run_is_refused_with_why() -> None:
    with pytest.raises(InputError, match=r"^B is invalid: 7 questions were due when every user was busy"):
        compare(steady(1), steady(2, dropped=7))
    with pytest.raises(InputError, match=r"^A is invalid: nothing was asked$"):
        compare(report([]), steady(2))


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str, str]:
    """The folders of a report, of one as good, and of a slower one."""
    made = {"a": steady(1), "b": steady(2), "slow": steady(3, seconds=2)}
    for name, each in made.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(as_json(each))
    return str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "slow")


def test_the_exit_code_says_whether_b_is_a_regression(files: tuple[str, str, str], capsys: Any) -> None:
    a, b, slow = files
    assert command.main(["compare", a, f"{b}/report.json"]) == 0
    assert "Nothing got worse by more than noise." in capsys.readouterr().out
    assert command.main(["compare", a, slow]) == 1
    said = capsys.readouterr().out
    assert "**B is a regression**: whole answer p50, s; whole answer p95, s; first token p50, s" in said
    assert "| **worse** |" in said
    assert command.main(["compare", slow, a]) == 0


def test_what_is_no_report_is_named(files: tuple[str, str, str], tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "other.json").write_text(json.dumps({"format": 1}))
    (tmp_path / "broken.json").write_text("{")
    for path, reason in {
        "missing": f"{tmp_path}/missing can't be read as a report: ",
        "broken.json": f"{tmp_path}/broken.json can't be read as a report: ",
        "other.json": f"{tmp_path}/other.json is no report of `python -m loadtest run` in format 2",
    }.items():
        assert command.main(["compare", files[0], str(tmp_path / path)]) == 2
        assert capsys.readouterr().err.startswith(f"sluice: {reason}")
    wrong: Any
    for name, wrong in {"requests": None, "settings": [], "seconds": "600"}.items():
        (tmp_path / "partial.json").write_text(as_json(steady(1) | {name: wrong}))
        assert command.main(["compare", files[0], str(tmp_path / "partial.json")]) == 2
        said = f"{tmp_path}/partial.json isn't whole: it lacks {name}, or has them in another form"
        assert capsys.readouterr().err == f"sluice: {said}\n"
    with pytest.raises(SystemExit, match="2"):
        command.main(["compare", *files[:2], "--tolerance", "2"])
    assert capsys.readouterr().err == "sluice: --tolerance: '2' is not a number from 0 to 1\n"


def test_an_interval_holds_the_true_value_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(60):
        table = summarise(list(np.random.default_rng(seed).exponential(1, 400)))
        assert table
        _, low, high = table["p50"]  # type: ignore[misc]
        held += low <= np.log(2) <= high
    assert 51 <= held < 60  # 95 %, less 2.9 standard deviations, and not always


def test_neighbours_that_are_alike_widen_the_interval() -> None:
    generator = np.random.default_rng(1)
    independent = generator.normal(0, 1, 600)
    alike = np.repeat(generator.normal(0, 1, 100), 6)
    widths = []
    for values in (independent, alike):
        _, low, high = difference(values, values, mean)
        widths.append(high - low)
    assert widths[1] > 1.5 * widths[0]


def test_the_same_values_give_the_same_interval() -> None:
    values = list(np.random.default_rng(1).exponential(1, 50))
    assert summarise(values) == summarise(values)
    assert summarise([]) is None
