from pathlib import Path
from typing import Any

import pytest

from loadtest.autoscaling.arms import ARMS, Outcome
from loadtest.autoscaling.figures import (
    PROBE,
    Step,
    busy_seconds,
    integral,
    new_pods,
    recovery_time,
    slo_violation_seconds,
    time_to_detect,
)
from loadtest.autoscaling.observer import Observer, Pod, Sample
from loadtest.autoscaling.report import new_report
from loadtest.autoscaling.step import figures_of, targets, write_step
from loadtest.autoscaling.zero import total

STEP = Step(up=30, down=120, slo=12)


def sample(at: float, wanted: int = 4, pods: int = 4) -> Sample:
    return Sample(at=at, wanted=wanted, pods=pods, ready=pods, queued=0, in_flight=0)


def asked(start: float, end: float, took: float = 4, outcome: str = "answered") -> list[list[Any]]:
    """Return a request a second."""
    return [[float(second), took, outcome, 1] for second in range(round(start), round(end))]


def test_the_time_to_detect_runs_from_the_rise_to_the_first_look_with_more_pods_wanted() -> None:
    samples = [sample(10), sample(30), sample(37), sample(45, wanted=8), sample(60, wanted=10)]
    assert time_to_detect(samples, up=30) == 15


def test_pods_that_were_wanted_before_the_rise_detect_nothing() -> None:
    assert time_to_detect([sample(10, wanted=10), sample(40, wanted=10)], up=30) is None
    assert time_to_detect([sample(10, wanted=10), sample(40, wanted=4), sample(50, wanted=10)], up=30) is None


def test_an_slo_that_was_never_broken_holds_again_at_once() -> None:
    assert recovery_time(asked(0, 150), STEP) == 0


def test_the_slo_holds_again_when_no_later_window_is_broken() -> None:
    requests = asked(0, 30) + asked(30, 70, took=20) + asked(70, 150)
    again = recovery_time(requests, STEP)
    assert again == 40  # the window from second 69 has one late request in fifteen: more than 5 %


def test_a_refusal_breaks_the_slo_as_a_late_answer_does() -> None:
    late = asked(0, 30) + asked(30, 70, took=12.1) + asked(70, 150)
    refused = asked(0, 30) + asked(30, 70, took=0.1, outcome="refused") + asked(70, 150)
    assert recovery_time(late, STEP) == recovery_time(refused, STEP) == 40


def test_an_slo_that_is_broken_to_the_end_of_the_high_load_does_not_hold_again() -> None:
    assert recovery_time(asked(0, 30) + asked(30, 120, took=20) + asked(120, 150), STEP) is None


def test_the_integral_of_misses_is_as_many_seconds_as_nobody_was_served_in_time() -> None:
    assert slo_violation_seconds(asked(0, 150), STEP, end=150) == 0
    assert slo_violation_seconds(asked(0, 30) + asked(30, 60, took=20) + asked(60, 150), STEP, end=150) == 30
    half = [[at, 4 if number % 2 else 20, "answered", 1] for number, (at, *_) in enumerate(asked(0, 30))]
    assert slo_violation_seconds(half, STEP, end=30) == pytest.approx(15)


def test_pod_seconds_are_pods_times_how_long_each_number_of_them_stayed() -> None:
    samples = [sample(0, pods=4), sample(10, pods=8), sample(15, pods=4), sample(16, pods=100)]
    assert integral(samples, lambda each: each.pods) == 4 * 10 + 8 * 5 + 4 * 1


def test_busy_seconds_count_what_lies_in_the_run_and_has_had_a_slot() -> None:
    lines: list[dict[str, Any]] = [
        {"started": 95.0, "ended": 103.0},  # began before the run
        {"started": 110.0, "ended": 114.0},
        {"started": None, "ended": 120.0},  # left while it waited
        {"event": "up", "at": 90.0},
        {"started": 198.0, "ended": 205.0},
    ]
    assert busy_seconds(lines, 100, 200) == 3 + 4 + 2


def test_a_new_pod_has_its_first_answer_from_a_caller_not_from_its_probe() -> None:
    pods = {"old": Pod(created=50, ready=55), "new": Pod(created=110, ready=116), "last": Pod(created=120)}
    lines = [
        {"pod": "old", "key": "a", "outcome": "complete", "ended": 101.0},
        {"pod": "new", "key": PROBE, "outcome": "complete", "ended": 114.0},
        {"pod": "new", "key": "b", "outcome": "left", "ended": 117.0},
        {"pod": "new", "key": "c", "outcome": "complete", "ended": 121.5},
        {"pod": "new", "key": "d", "outcome": "complete", "ended": 125.0},
    ]
    assert new_pods(pods, lines, up=100) == [
        {"created": 10, "ready": 16, "first_answer": 21.5},
        {"created": 20, "ready": None, "first_answer": None},
    ]


def test_a_caller_without_an_answer_has_no_total() -> None:
    refused = {"at": 0.0, "took": 10.0, "status": 503, "retry_after": 5}
    assert total([refused, {"at": 15.0, "took": 4.5, "status": 200, "retry_after": None}]) == 19.5
    assert total([refused]) is None


def outcome(took: float) -> Outcome:
    """Return a run of 100 s from second 1000, with as long a time for the requests of the first half of its step."""
    seen = Observer("none", "")
    seen.samples = [sample(990.0 + second, wanted=4 if second < 50 else 8) for second in range(120)]
    seen.pods = {"a": Pod(created=900, ready=905), "b": Pod(created=1045, ready=1050, ending=1080)}
    seen.lines = [{"pod": "b", "key": "k", "outcome": "complete", "started": 1051.0, "ended": 1055.0}]
    requests = asked(0, 25) + asked(25, 50, took=took) + asked(50, 100)
    counts = dict.fromkeys(("requests", "answered", "answered_after_retry", "refused", "timeout", "error"), 0)
    counts |= {"requests": 100, "answered": 100, "bad_answer": 0, "refusals": 3}
    report = {"seconds": 100, "slo_s": 12, "requests": requests, "counts": counts,
              "scenario": "step", "latency_s": {"p95": [took, took, took]}}  # fmt: skip
    return Outcome(1000, report, seen)


def test_a_runs_figures_are_in_seconds_since_the_load_rose() -> None:
    figures = figures_of(outcome(took=20))
    assert (figures["detected_s"], figures["recovery_time_s"], figures["slo_violation_s"]) == (15, 25, 25)
    assert (figures["first_created_s"], figures["first_ready_s"], figures["first_answer_s"]) == (20, 25, 30)
    assert (figures["late"], figures["pods_ended_under_load"]) == (25, 1)
    assert figures["pod_seconds"] == 4 * 100
    assert figures["wasted_pod_seconds"] == 400 - 3  # of the 4 busy seconds a quarter went into late answers


def test_an_autoscaler_is_faster_when_the_slo_holds_in_half_the_time() -> None:
    fast, slow = figures_of(outcome(took=4)), figures_of(outcome(took=20))
    assert [each["passed"] for each in targets({"requests": fast, "cpu": slow, "cpu-low": slow})] == [True] * 4
    assert not targets({"requests": slow, "cpu": slow, "cpu-low": slow})[0]["passed"]
    assert not targets({"requests": fast, "cpu": fast, "cpu-low": slow})[0]["passed"]  # nothing was broken


def test_the_report_has_the_arms_side_by_side(tmp_path: Path) -> None:
    report = new_report("autoscaling", ["step"], seconds=4) | {"cpu_busy": 0.5}
    write_step(report, {name: outcome(took=4 if name == "requests" else 20) for name in ARMS}, tmp_path)
    summary = (tmp_path / "autoscaling/summary.md").read_text()
    assert "| → **recovery: the SLO holds again, s** | 0 | 25 | 25 |" in summary
    assert "Simulated: the engine" in summary
    assert (tmp_path / "autoscaling/report.html").read_text().count("<svg") == 1
