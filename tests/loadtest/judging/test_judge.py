"""Whether a release is good, and what is said of it."""

from dataclasses import replace

import pytest

from loadtest.judging.answers import Answer, Outcome
from loadtest.judging.judge import FEWEST, Judge, new_judges, together
from loadtest.judging.record import Record, questions_hash
from loadtest.judging.said import sentences
from loadtest.judging.sequential import Verdict

SHAPE = "m on 3 CPUs"
RIGHT = Answer(Outcome.RIGHT, "m", 1, busy_slots=2, first=0.5, token=0.05)
WRONG = replace(RIGHT, outcome=Outcome.WRONG)
FAILED = Answer(Outcome.FAILED, "m", 1, why="empty")
BUSY = Answer(Outcome.BUSY)
LIVE = Record(SHAPE, questions_hash(), frozenset({1}), {2: [0.5] * 20}, {2: [0.05] * 20})


def judged(*answers: Answer, live: Record | None = LIVE, settled: bool = True) -> Judge:
    judge = Judge(SHAPE, live)
    for answer in answers:
        judge.observe(answer, settled=settled)
    return judge


def said(judge: Judge) -> list[str]:
    return list(sentences({"m": judge}))


def test_a_release_as_good_as_the_live_one_is_good_after_85_answers() -> None:
    assert judged(*[RIGHT] * 84).verdict is Verdict.OPEN
    judge = judged(*[RIGHT] * 85)
    assert judge.verdict is Verdict.GOOD
    assert said(judge) == [
        "0 of 85 answers failed: that rules out 5 % (error rate 2 %).",
        "0 of 85 answers were wrong where the live release is right: that rules out 30 % (error rate 2 %).",
        "First token: 1.00 × the live release's time with as many busy slots (85 answers): that rules out 1.3 × (error "
        "rate 2 %).",
        "Each further token: 1.00 × the live release's time with as many busy slots (85 answers): that rules out 1.3 × "
        "(error rate 2 %).",
    ]


def test_what_is_not_proven_is_said() -> None:
    judge = judged(*[RIGHT] * 9)
    assert (judge.verdict, judge.enough) == (Verdict.OPEN, True)
    assert said(judge) == [
        "0 of 9 answers failed: up to 28.3 % can't be ruled out.",
        "0 of 9 answers were wrong where the live release is right: up to 28.3 % can't be ruled out.",
        "First token: 1.00 × the live release's time with as many busy slots (9 answers): 1.3 × can't be ruled out.",
        "Each further token: 1.00 × the live release's time with as many busy slots (9 answers): 1.3 × can't be ruled "
        "out.",
    ]


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ([FAILED] * 2, "2 of 2 answers failed (2 × empty): a good release has 0.5 % (error rate 1.25 %)."),
        ([WRONG] * 3, "3 of 3 answers were wrong where the live release is right: a good release has 5 %"),
        ([replace(RIGHT, first=0.65)] * 40, "First token: 1.30 × the live release's time with as many busy slots"),
        ([replace(RIGHT, token=0.065)] * 40, "(40 answers): a good release isn't that slow (error rate 1.25 %)."),
    ],
)
def test_a_release_that_is_worse_in_one_thing_is_bad(answers: list[Answer], sentence: str) -> None:
    assert judged(*answers[:-1]).verdict is Verdict.OPEN
    judge = judged(*answers)
    assert judge.verdict is Verdict.BAD
    assert sentence in " ".join(said(judge))


def test_a_question_that_the_live_release_could_not_answer_or_was_not_asked_is_not_held_against_the_next() -> None:
    assert judged(*[replace(WRONG, question=9)] * 50).wrong.seen == 0


def test_a_release_that_begins_to_fail_after_it_looked_good_is_bad() -> None:
    assert judged(*[RIGHT] * 85).failures.verdict is Verdict.GOOD
    assert judged(*[RIGHT] * 85, FAILED).verdict is Verdict.GOOD
    assert judged(*[RIGHT] * 85, FAILED, FAILED).verdict is Verdict.BAD


def test_without_a_live_release_absolute_thresholds_decide_and_speed_does_not() -> None:
    good = judged(*[RIGHT, RIGHT, RIGHT, WRONG] * 22, live=None)
    assert good.verdict is Verdict.GOOD
    assert said(good)[1:] == [
        "22 of 88 answers were wrong: that rules out 70 % (error rate 2 %).",
        "Speed was not judged: no release with such pods, asked the same, has passed before.",
    ]
    assert judged(*[WRONG] * 6, live=None).verdict is Verdict.BAD


def test_pods_of_another_shape_are_compared_by_their_answers_but_not_by_their_times() -> None:
    judge = judged(*[replace(RIGHT, first=50.0)] * 85, live=replace(LIVE, shape="m on 8 CPUs"))
    assert (judge.verdict, judge.wrong.question.bad) == (Verdict.GOOD, 0.3)
    assert said(judge)[-1].startswith("Speed was not judged")


def test_times_with_other_numbers_of_busy_slots_are_not_compared_and_it_is_said() -> None:
    judge = judged(*[replace(RIGHT, busy_slots=4, first=50.0)] * 85)
    assert judge.verdict is Verdict.GOOD
    assert said(judge)[2] == "First token: not judged, as the live release isn't known with 4 busy slots."


def test_times_do_not_count_before_the_pods_have_settled_and_nothing_passes_without_times() -> None:
    judge = judged(*[replace(RIGHT, first=50.0)] * 100, settled=False)
    assert (judge.verdict, judge.first.tried) == (Verdict.OPEN, 0)
    for _ in range(40):
        judge.observe(RIGHT, settled=True)
    assert judge.verdict is Verdict.GOOD
    assert judge.record().first == {2: [0.5] * 40}


def test_answers_of_another_release_do_not_count_and_it_is_said() -> None:
    own = ("fronts-2", "pods-2")
    judge = Judge(SHAPE, releases=own)
    for each in (WRONG, FAILED):
        for other in (("fronts-2", "pods-1"), ("fronts-1",), ("fronts-1", "pods-2")):
            judge.observe(replace(each, releases=other), settled=True)
    assert (judge.elsewhere, len(judge.answers)) == (6, 0)
    assert said(judge) == ["6 answers were another release's, and don't count."]
    for releases in (own, own[:1], ()):  # the last ones don't say whose they are
        judge.observe(replace(RIGHT, releases=releases), settled=True)
        judge.observe(replace(FAILED, releases=releases), settled=True)
    assert (judge.elsewhere, judge.failures.hits, judge.failures.seen) == (6, 3, 6)


def test_each_model_has_a_release_of_its_own_behind_the_same_fronts() -> None:
    judges = new_judges({"a": "", "b": ""}, {}, {"": "fronts", "a": "pods-a", "b": "pods-b"})
    assert {model: judge.releases for model, judge in judges.items()} == {
        "a": ("fronts", "pods-a"),
        "b": ("fronts", "pods-b"),
    }


def test_answers_without_times_are_judged_without_them() -> None:
    assert judged(*[Answer(Outcome.RIGHT, "m", 1)] * 85).verdict is Verdict.GOOD


def test_refusals_for_others_load_say_nothing_of_a_release_and_too_few_answers_neither() -> None:
    judge = judged(*[BUSY] * 1000, *[RIGHT] * (FEWEST - 1))
    assert (judge.verdict, judge.enough, judge.failures.hits) == (Verdict.OPEN, False, 0)
    assert said(judge)[0] == "1000 times a question was refused as others had the slots, and asked again."


def test_models_share_the_false_alarms_and_a_bad_one_makes_the_release_bad() -> None:
    judges = new_judges({"m": SHAPE, "n": "n on 1 CPU"}, {"m": LIVE, "n": replace(LIVE, questions="others")}, {})
    assert [each.live for each in judges.values()] == [LIVE, None]
    assert {each.failures.question.false_alarm for each in judges.values()} == {0.05 / 4 / 2}
    for _ in range(85):
        judges["m"].observe(RIGHT, settled=True)
    assert together(judges.values()) is Verdict.OPEN
    for _ in range(10):
        judges["n"].observe(WRONG, settled=True)
    assert together(judges.values()) is Verdict.BAD
    assert next(iter(sentences(judges))).startswith("m: 0 of 85 answers failed")
