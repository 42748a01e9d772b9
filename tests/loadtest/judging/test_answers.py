"""Lines of the smoke, read."""

import json
import re
from typing import Any

import pytest

from loadtest.judging.answers import Answer, Outcome, read_answer
from loadtest.judging.record import read_questions

TIMES = {"queued_ms": 100.0, "first_token_ms": 300.0, "total_ms": 1300.0, "busy_slots": 2.6, "tokens": 11}


def read(**said: Any) -> Answer | None:
    return read_answer(json.dumps({"model": "m", "question": 3, "outcome": "right", **said}))


def test_an_answer_has_its_times_without_the_wait_for_a_slot() -> None:
    assert read(**TIMES) == Answer(Outcome.RIGHT, "m", 3, busy_slots=3, first=0.2, token=0.1)
    assert read(release="fronts-1 pods-1").releases == ("fronts-1", "pods-1")


def test_a_short_answer_does_not_tell_how_long_a_token_takes() -> None:
    answer = read(**TIMES | {"tokens": 5})
    assert answer
    assert (answer.first, answer.token) == (0.2, None)


@pytest.mark.parametrize(
    "change",
    [
        {"busy_slots": None},  # of a pod that is older than the front
        {"busy_slots": 0.4},
        {"busy_slots": 1e9},
        {"first_token_ms": 50.0},
        {"total_ms": "soon"},
        {"queued_ms": -1},
    ],
)
def test_times_that_cannot_be_are_none(change: dict[str, Any]) -> None:
    assert read(**TIMES | change) == Answer(Outcome.RIGHT, "m", 3)


@pytest.mark.parametrize("line", ["", "null", "[]", "level=info", "{}", '{"outcome": "odd"}', '{"outcome": ["right"]}'])
def test_other_lines_are_no_answers(line: str) -> None:
    assert read_answer(line) is None


def test_the_reason_of_a_failure_is_short_and_has_nothing_that_a_page_could_take_for_markup() -> None:
    answer = read(outcome="failed", why="model <b>@you</b> [x](http://y)\n" + "z" * 100)
    assert answer
    assert answer.why == "model byou/b x(http://y)" + "z" * 36
    nothing = read(outcome="failed")
    assert nothing
    assert nothing.why == "no reason"


def test_the_example_of_each_question_is_right_and_no_other_question_is_asked_in_the_same_words() -> None:
    questions = read_questions()
    assert len({each["ask"] for each in questions}) == len(questions) >= 30
    for each in questions:
        assert re.search(each["right"], each["example"], re.IGNORECASE), each
        assert not re.search(each["right"], each["ask"], re.IGNORECASE), f"repeating it would be right: {each}"
