"""The statistics that a release is judged by: their error rates exactly, and the same by simulation."""

import random

import pytest

from loadtest.judging.sequential import Question, Sequence, Verdict, at_most, characteristics

FAILURES = Question(good=0.005, bad=0.05, false_alarm=0.0125, missed=0.03)
SLOWER = Question(good=0.35, bad=0.65, false_alarm=0.0125, missed=0.03)


@pytest.mark.parametrize("question", [FAILURES, SLOWER])
def test_both_error_rates_are_within_those_asked_for(question: Question) -> None:
    assert characteristics(question, question.good, 1000).bad <= question.false_alarm
    assert characteristics(question, question.bad, 1000).good <= question.missed


@pytest.mark.parametrize("question", [FAILURES, SLOWER])
@pytest.mark.parametrize("share", [0.005, 0.05, 0.35, 0.65])
@pytest.mark.parametrize("most", [60, 300])
def test_the_exact_characteristics_are_those_of_a_simulation(question: Question, share: float, most: int) -> None:
    chance = random.Random(15)
    ends, answers, tries = dict.fromkeys(Verdict, 0), 0, 2000
    for _ in range(tries):
        sequence = Sequence(question)
        while sequence.verdict is Verdict.OPEN and sequence.seen < most:
            sequence.observe(chance.random() < share)
        ends[sequence.verdict] += 1
        answers += sequence.seen
    exact = characteristics(question, share, most)
    found = [ends[each] / tries for each in (Verdict.BAD, Verdict.GOOD, Verdict.OPEN)]
    assert [exact.bad, exact.good, exact.open] == pytest.approx(found, abs=0.035)
    assert exact.answers == pytest.approx(answers / tries, rel=0.06)


def test_one_failure_alone_never_calls_a_release_bad() -> None:
    sequence = Sequence(FAILURES)
    sequence.observe(True)
    assert sequence.verdict is Verdict.OPEN


def test_a_bad_verdict_stays_whatever_comes_afterwards() -> None:
    sequence = Sequence(FAILURES)
    for _ in range(3):
        sequence.observe(True)
    for _ in range(1000):
        sequence.observe(False)
    assert sequence.verdict is Verdict.BAD


def test_a_good_release_without_a_failure_needs_76_answers() -> None:
    assert characteristics(FAILURES, 0.0, 100).answers == 76


@pytest.mark.parametrize(
    ("hits", "seen", "most"), [(0, 30, 0.0950), (0, 59, 0.0495), (1, 100, 0.0466), (3, 3, 1.0), (0, 0, 1.0)]
)
def test_what_is_not_ruled_out_is_what_the_tables_say(hits: int, seen: int, most: float) -> None:
    assert at_most(hits, seen) == pytest.approx(most, abs=0.0002)
