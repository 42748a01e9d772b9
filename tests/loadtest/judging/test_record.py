"""What is kept of a release for the next one."""

import pytest

from delivery.seen import MOST_CHARACTERS, read_record
from loadtest.judging.answers import Answer, Outcome
from loadtest.judging.record import KEPT, Record, new_record, questions_hash, read_records, write_records

SHAPE = "m on 3 CPUs"


def answers(count: int, slots: int, seconds: float, token: float | None = None) -> list[Answer]:
    return [Answer(Outcome.RIGHT, "m", 0, busy_slots=slots, first=seconds, token=token)] * count


def record_of(timed: list[Answer], live: Record | None = None, shape: str = SHAPE) -> Record:
    return new_record(shape, timed, timed, live)


def test_a_record_is_read_as_it_was_written() -> None:
    wrong = Answer(Outcome.WRONG, "m", 7, busy_slots=1, first=0.25, token=0.0123456)
    record = record_of([wrong, *answers(2, 4, 0.5)])
    assert record == Record(SHAPE, questions_hash(), frozenset({0}), {1: [0.25], 4: [0.5, 0.5]}, {1: [0.0123456]})
    [read] = read_records(write_records({"m": record})).values()
    assert (read.right, read.first, read.token) == (
        record.right,
        record.first,
        {1: [0.0123]},
    )  # three digits are enough


def test_the_newest_times_are_kept_and_where_there_are_few_those_of_earlier_releases_too() -> None:
    live = record_of(answers(KEPT, 1, 0.1) + answers(KEPT, 4, 0.4))
    record = record_of(answers(3, 1, 0.2) + answers(KEPT + 5, 2, 0.3), live)
    assert record.first == {1: [0.1] * (KEPT - 3) + [0.2] * 3, 2: [0.3] * KEPT, 4: [0.4] * KEPT}


def test_what_this_release_was_not_asked_is_right_if_the_one_before_had_it_right() -> None:
    live = Record(SHAPE, questions_hash(), frozenset({1, 2, 3}))
    outcomes = [(2, Outcome.WRONG), (3, Outcome.RIGHT), (4, Outcome.RIGHT), (4, Outcome.WRONG), (5, Outcome.RIGHT)]
    record = record_of([Answer(outcome, "m", place) for place, outcome in [*outcomes, (6, Outcome.FAILED)]], live)
    assert record.right == {1, 3, 5}


@pytest.mark.parametrize(("before", "after"), [("m on 3 CPUs", "m on 4 CPUs"), ("", "")])
def test_times_of_other_pods_are_not_kept_nor_of_those_whose_cpus_are_not_their_own(before: str, after: str) -> None:
    record = record_of(answers(3, 2, 0.2), record_of(answers(3, 1, 0.1), shape=before), after)
    assert record.first == {2: [0.2] * 3}


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"m": 1}', '{"m": {"shape": 1}}', '{"m": {"shape": "", "questions": "", "right": [], "first": []}}'],
)
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no record of a release"):
        read_records(text)


def test_no_record_is_an_empty_text() -> None:
    assert read_records("") == {}


def test_the_largest_record_of_four_models_goes_from_one_workflow_to_another() -> None:
    times = [each for slots in range(1, 9) for each in answers(KEPT, slots, 0.123, 0.0456)]
    text = write_records({f"model-{number}": record_of(times) for number in range(4)})
    assert read_record(text) == text
    assert len(text) < MOST_CHARACTERS
