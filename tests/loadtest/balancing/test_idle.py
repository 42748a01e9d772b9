import pytest

from loadtest.balancing.disturbances import Churn
from loadtest.balancing.experiment import groups
from loadtest.balancing.idle import Idle, Span, busy, idle_while_waiting, waits
from loadtest.balancing.systems import CHURN, KILLED, LEAST, RANDOM, SHARED, System
from loadtest.balancing.trace import Attempt, Question


def question(*attempts: Attempt) -> Question:
    return Question(1, 0.0, list(attempts))


def line(started: float | None, ended: float, pod: str = "a", asked: Question | None = None) -> dict[str, object]:
    key = (asked or question()).key
    return {"event": "request", "pod": pod, "key": key, "arrived": 0.0, "started": started, "ended": ended}


def test_an_attempt_waits_from_its_way_there_until_an_engine_starts_with_it() -> None:
    asked = question(Attempt(10, 30, "answered"))
    assert waits([asked], [line(18, 30)]) == [Span(10.1, 18)]


def test_an_attempt_that_no_engine_started_waits_to_its_end() -> None:
    asked = question(Attempt(10, 100, "timeout"), Attempt(100, 120, "answered"))
    assert waits([asked], [line(None, 100), line(105, 120)]) == [Span(10.1, 100), Span(100.1, 105)]


def test_what_is_only_on_its_way_doesnt_wait() -> None:
    assert waits([question(Attempt(10, 22, "answered"))], [line(10.05, 22)]) == []


def test_another_question_s_start_ends_no_wait() -> None:
    other = Question(2, 0.0)
    assert waits([question(Attempt(10, 20, "timeout"))], [line(12, 20, asked=other)]) == [Span(10.1, 20)]


def test_one_pod_idle_for_half_of_another_s_wait_is_found() -> None:
    present = [Span(0, 20), Span(0, 20)]
    working = [Span(0, 20), Span(0, 5)]
    assert idle_while_waiting([Span(0, 10)], working, present) == Idle(waiting=10, idle=5, lost=5)


def test_no_more_is_lost_than_waits_and_no_more_than_is_idle() -> None:
    pods = [Span(0, 10)] * 3
    assert idle_while_waiting([Span(0, 10)], [], pods) == Idle(10, 10, 10)
    assert idle_while_waiting([Span(0, 10)] * 2, [], pods) == Idle(10, 10, 20)
    assert idle_while_waiting([Span(0, 10)] * 5, [], pods) == Idle(10, 10, 30)


def test_nothing_is_lost_where_every_pod_works_or_nobody_waits() -> None:
    pods = [Span(0, 10)] * 2
    assert idle_while_waiting([Span(2, 8)], pods, pods) == Idle(6, 0, 0)
    assert idle_while_waiting([], [Span(0, 4)], pods) == Idle(0, 0, 0)


def test_a_request_that_follows_at_once_on_the_same_pod_loses_nothing() -> None:
    working = [Span(0, 5), Span(5, 10)]
    assert idle_while_waiting([Span(0, 5)], working, [Span(0, 10)]) == Idle(5, 0, 0)


def test_a_pod_counts_only_while_it_is_there() -> None:
    present = {"a": Span(0, 10), "b": Span(4, 6)}
    working = busy([line(0, 10, "a"), line(1, 9, "b"), line(0, 10, "gone"), line(None, 3, "a")], present)
    assert sorted(working) == [Span(0, 10), Span(4, 6)]
    assert idle_while_waiting([Span(0, 10)], working, [*present.values()]) == Idle(10, 0, 0)


def system(lines: list[dict[str, object]], churn: Churn | None = None) -> System:
    """Return a run of two pods from 100 to 200 in which one question waited from 110.1 to 150."""
    asked = question(Attempt(110, 160, "answered"))
    return System("shared", "here", "", 2, 1.0, [asked], lines=lines, churn=churn, started=100, ended=200)


def test_a_run_counts_every_pod_whose_engine_has_written_a_line() -> None:
    other = Question(2, 0.0)
    idle = system([line(150, 160, "a"), line(100, 150, "a", other), line(100, 120, "b", other)]).idle()
    assert idle.waiting == pytest.approx(39.9)
    assert idle.idle == pytest.approx(30)


def test_a_run_with_pods_that_come_and_go_counts_them_while_they_were_there() -> None:
    other = Question(2, 0.0)
    churn = Churn("here", [], since={"a": 50, "b": 50, "c": 140}, until={"b": 130})
    lines = [line(150, 160, "a"), line(100, 150, "a", other), line(100, 120, "b", other)]
    assert system(lines, churn).idle().idle == pytest.approx(20)  # b from 120 to 130, c from 140 to 150


def test_the_shared_queue_is_hurt_apart_and_on_four_pods_only() -> None:
    whole = (RANDOM, LEAST, SHARED)
    assert [*groups([4, 10])] == [(whole, 4), ((KILLED, CHURN), 4), (whole, 10)]
