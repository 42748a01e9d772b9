"""The trace, and its client against a server that answers, refuses, stalls and breaks off."""

import asyncio
import time

import pytest

from loadtest.balancing.trace import PHASES, Question, replay, trace
from loadtest.on_cluster.stages import SECONDS
from tests.support.stub import HANG, Answer, stub

ANSWER: Answer = (200, {}, {"response": "word", "finish_reason": "stop"})
REFUSAL: Answer = (503, {"Retry-After": "1"}, {"error": {}})


def play(*script: Answer, scale: float = 1, due: float = 0) -> Question:
    """Ask one question of a server that answers with the items of this script, in turn."""
    left, question = list(script), Question(0, due)
    with stub(lambda _: left.pop(0)) as server:
        asyncio.run(replay("test", server.url, [question], scale=scale))
    return question


def outcomes(question: Question) -> list[str]:
    return [attempt.outcome for attempt in question.attempts]


def test_the_same_trace_comes_every_time_and_another_for_more_pods() -> None:
    assert trace(4, scale=1) == trace(4, scale=1)
    assert len(trace(10, scale=1)) > 2 * len(trace(4, scale=1))
    assert [q.due for q in trace(4, scale=0.5)] == pytest.approx([q.due / 2 for q in trace(4, scale=1)])


def test_its_load_is_what_the_phases_say() -> None:
    questions = trace(400, scale=1)
    began = 0.0
    for seconds, load in PHASES:
        count = sum(began <= question.due < began + seconds for question in questions)
        assert count * SECONDS / (400 * seconds) == pytest.approx(load, rel=0.06)
        began += seconds


def test_a_question_is_asked_when_it_is_due() -> None:
    before = time.time()
    question = play(ANSWER, due=0.3)
    assert 0.3 <= question.attempts[0].sent - before < 0.8
    assert outcomes(question) == ["answered"]


def test_a_refusal_is_followed_when_it_said() -> None:
    question = play(REFUSAL, ANSWER)
    assert outcomes(question) == ["refused", "answered"]
    assert 1 <= question.attempts[1].sent - question.attempts[0].ended < 1.5
    assert question.took >= 1


def test_what_fails_is_asked_again_three_times() -> None:
    half: Answer = (200, {}, {"response": "word"})
    failure: Answer = (502, {}, {"error": {}})
    question = play(failure, half, failure, failure)
    assert outcomes(question) == ["error"] * 4
    assert question.outcome == "error"


def test_a_client_has_patience_for_so_long_only() -> None:
    question = play(HANG, ANSWER, scale=0.005)
    assert outcomes(question) == ["timeout", "answered"]
    assert 0.4 <= question.attempts[0].ended - question.attempts[0].sent < 1
