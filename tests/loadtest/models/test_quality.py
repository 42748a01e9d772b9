from typing import Any

import pytest

from loadtest.models.checks import KINDS, is_right
from loadtest.models.pictures import draw
from loadtest.models.quality import PARTS, Mark, cosine, part_of, read_questions, scores
from loadtest.reporting.statistics import mcnemar_p, median, wilson


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        ({"kind": "exact", "answers": ["yes"]}, [" Yes.", "**YES**"], ["Yes, it is.", "no", ""]),
        (
            {"kind": "words", "any": ["Canberra"], "none": ["Sydney"]},
            ["The capital is Canberra."],
            ["It is Sydney, not Canberra.", "Canberran food", "Perth"],
        ),
        ({"kind": "words", "any": ["8", "eight"]}, ["It has eight legs", "8"], ["18 legs", "weight"]),
        (
            {"kind": "number", "value": 1200},
            ["1,200", "It is 1200.0.", "3 × 400 = 1200."],
            ["1200 or 1300", "twelve hundred", ""],
        ),
        ({"kind": "number", "value": -3}, ["-3", "2 - 5 = -3"], ["3"]),
        (
            {"kind": "json", "value": {"name": "Anna", "age": 31}},
            ['```json\n{"age": 31, "name": "anna"}\n```', 'Here: {"name": " Anna", "age": 31} Done.'],
            [
                '{"name": "Anna"}',
                '{"name": "Anna", "age": "31"}',
                "name: Anna",
                "{not JSON}",
                '{"name": "Anna", "age": 31,}',
            ],
        ),
        ({"kind": "json", "value": {"paid": False}}, ['{"paid": false}'], ['{"paid": true}', '{"paid": null}']),
        ({"kind": "regex", "pattern": "(?-i:RIVER)\\W*"}, ["RIVER", "RIVER."], ["River", "the RIVER"]),
    ],
)
def test_each_kind_of_check_knows_right_from_wrong(check: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    assert [is_right(check, answer) for answer in right] == [True] * len(right)
    assert [is_right(check, answer) for answer in wrong] == [False] * len(wrong)


def test_the_committed_questions_can_be_marked_and_drawn() -> None:
    questions = read_questions()
    assert len({question["id"] for question in questions}) == len(questions)
    for question in questions:
        check = question["check"]
        assert question["id"].startswith(question["category"] + "-")
        assert check["kind"] in {*KINDS, "nearest"}
        assert (check["kind"] == "nearest") == (question["category"] == PARTS["embedding"])
        assert ("picture" in question) == (question["category"] == PARTS["vision"])
        if "picture" in question:
            assert draw(question["picture"]).startswith(b"\x89PNG")
        if check["kind"] == "nearest":
            assert len({check["right"], *check["wrong"]}) >= 3
        else:
            assert not is_right(check, "")
            assert not is_right(check, question["prompt"]), "an echo must not pass"
    categories = {question["category"] for question in questions if part_of(question["category"]) == "text"}
    assert categories == {"facts", "arithmetic", "extraction", "instructions", "language"}


def test_fewer_questions_are_the_first_of_each_category() -> None:
    few = read_questions(first=2)
    assert {sum(each["category"] == name for each in few) for name in {each["category"] for each in few}} == {2}


def test_parts_are_scored_apart_with_an_interval() -> None:
    marks = [Mark("facts-a", "facts", True, "x"), Mark("language-b", "language", False, "y")]
    found = scores([*marks, Mark("pictures-c", "pictures", True, "z")])
    assert found["text"]["categories"] == {"facts": [1, 1], "language": [0, 1]}
    assert found["text"]["share"][0] == 0.5
    assert found["text"]["share"] == [round(each, 3) for each in wilson(1, 2)]
    assert (found["pictures"]["right"], found["pictures"]["asked"]) == (1, 1)


def test_a_share_of_few_answers_has_a_wide_interval() -> None:
    assert wilson(8, 10) == pytest.approx((0.8, 0.490, 0.943), abs=0.001)  # as tables of Wilson's have it
    assert wilson(0, 10) == pytest.approx((0.0, 0.0, 0.278), abs=0.001)
    assert wilson(10, 10).high == 1


def test_only_questions_that_differ_tell_two_models_apart() -> None:
    same = [True] * 20
    assert mcnemar_p([*same, True], [*same, False]) == 1.0
    assert mcnemar_p([True] * 6, [False] * 6) == pytest.approx(2 / 64)
    assert mcnemar_p([True] * 5 + [False], [False] * 5 + [True]) == pytest.approx(2 * 7 / 64)


def test_a_median_of_equal_values_is_certain() -> None:
    assert median([2.0, 2.0, 2.0]) == [2.0, 2.0, 2.0]
    value, low, high = median([1.0, 2.0, 3.0, 4.0, 100.0])
    assert low < value == 3.0 < high


def test_cosine_is_one_for_the_same_direction_and_zero_for_none() -> None:
    assert (cosine([1, 2], [2, 4]), cosine([1, 0], [0, 3]), cosine([0, 0], [1, 1])) == pytest.approx((1, 0, 0))
