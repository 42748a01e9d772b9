from typing import Any

import pytest

from service.connections import Connection, Connections, Phase
from service.outbox import Budget
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connections(clock: Clock) -> Connections:
    return Connections({Phase.IDLE: 75, Phase.HEAD: 10, Phase.BODY: 60}, clock)


def connection(budget: Budget | None = None) -> Connection:
    nothing: Any = None
    return Connection(nothing, nothing, nothing, nothing, budget or Budget(100))


def test_a_phase_ends_after_its_time_whatever_comes_meanwhile(connections: Connections, clock: Clock) -> None:
    first, second, running = connection(), connection(), connection()
    connections.enter(first, Phase.HEAD)
    connections.enter(running, Phase.RUNNING)
    clock.now += 6
    connections.enter(second, Phase.HEAD)
    assert list(connections.due()) == []
    clock.now += 4
    ended = []
    for each in connections.due():
        ended.append(each)
        connections.leave(each)
    assert ended == [first]
    connections.enter(second, Phase.BODY)
    clock.now += 59
    assert list(connections.due()) == []
    clock.now += 1
    assert next(connections.due()) is second


def test_a_stop_leaves_idle_connections_little_time(connections: Connections, clock: Clock) -> None:
    idle, body = connection(), connection()
    connections.enter(idle, Phase.IDLE)
    connections.enter(body, Phase.BODY)
    connections.cap(2, Phase.IDLE)
    clock.now += 2
    assert next(connections.due()) is idle


def test_the_connection_that_has_done_the_same_for_longest_goes_first_and_a_running_one_never(
    connections: Connections, clock: Clock
) -> None:
    assert connections.oldest_sparable() is None
    order = (Phase.RUNNING, Phase.SENDING, Phase.BODY, Phase.IDLE, Phase.HEAD, Phase.BODY, Phase.IDLE)
    running, sending, upload, idle, head, later, newest = (connection() for _ in order)
    for each, phase in zip((running, sending, upload, idle, head, later, newest), order, strict=True):
        connections.enter(each, phase)
        clock.now += 1
    spared = []
    while (oldest := connections.oldest_sparable(newest)) is not newest:
        assert oldest is not None
        spared.append(oldest)
        connections.leave(oldest)
    assert spared == [upload, idle, head, later, sending]
    clock.now += 60
    connections.leave(newest)
    assert connections.oldest_sparable() is None


def test_the_greediest_upload_has_held_most_for_longest(connections: Connections, clock: Clock) -> None:
    budget = Budget(100)
    slow, quick, empty = connection(budget), connection(budget), connection(budget)
    connections.enter(slow, Phase.BODY)
    connections.enter(empty, Phase.HEAD)
    slow.hold(40)
    clock.now += 10
    connections.enter(quick, Phase.BODY)
    quick.hold(70)
    clock.now += 1
    assert budget.exceeded
    assert connections.unfinished() == 110
    assert connections.greediest() is slow
    slow.hold(0)
    assert (budget.used, budget.exceeded) == (70, False)
    assert connections.greediest() is quick
