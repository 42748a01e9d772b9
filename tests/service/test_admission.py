import contextlib
import threading

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from service.admission import SMOKE_PLACES, Admission, Priority, Refusal, Refused, Ticket
from testbed.waiting import eventually
from tests.support.clock import Clock


def admission(clock: Clock, slots: int = 1, max_queue: int = 4, max_wait: float = 30) -> Admission:
    return Admission(slots=slots, max_queue=max_queue, max_wait=max_wait, clock=clock)


def serve(door: Admission, clock: Clock, seconds: float) -> None:
    """Let one request take its slot for some seconds and complete."""
    ticket = door.enter()
    clock.now += seconds
    ticket.release(completed=True)


def test_slots_are_granted_at_once_and_the_next_waits() -> None:
    door = admission(Clock(), slots=2)
    first, second, third = (door.enter() for _ in range(3))
    assert (first.granted, second.granted, third.granted) == (True, True, False)
    assert (door.in_flight, door.queued()) == (2, 1)


def test_a_released_slot_goes_to_the_longest_waiting() -> None:
    clock = Clock()
    door = admission(clock)
    first, second, third = (door.enter() for _ in range(3))
    clock.now += 3
    first.release()
    assert second.granted
    assert not third.granted
    assert second.queued_for == 3


def test_a_ticket_says_how_many_slots_were_busy_on_average_since_it_got_its_own() -> None:
    clock = Clock()
    door = admission(clock, slots=2)
    first = door.enter()
    assert first.busy_slots == 1  # at once, before any time has passed
    clock.now += 3
    second, third = door.enter(), door.enter()
    clock.now += 1
    assert first.busy_slots == pytest.approx((3 * 1 + 1 * 2) / 4)
    assert second.busy_slots == 2
    first.release()  # its slot goes to the third at once
    clock.now += 1
    second.release()
    clock.now += 2
    assert third.busy_slots == pytest.approx((1 * 2 + 2 * 1) / 3)


def test_releasing_twice_frees_one_slot() -> None:
    door = admission(Clock())
    first, second, third = (door.enter() for _ in range(3))
    first.release()
    first.release()
    assert second.granted
    assert not third.granted
    assert door.in_flight == 1


def test_a_request_that_leaves_the_queue_takes_no_slot() -> None:
    door = admission(Clock())
    first, second, third = (door.enter() for _ in range(3))
    second.release()
    assert door.queued() == 1
    first.release()
    assert third.granted


def test_a_full_queue_refuses_at_once() -> None:
    door = admission(Clock(), max_queue=2)
    for _ in range(3):
        door.enter()
    with pytest.raises(Refused) as refused:
        door.enter()
    assert refused.value.reason is Refusal.QUEUE_FULL
    assert refused.value.retry_after == 30  # nothing has completed yet: the longest wait is the best guess


def test_no_queue_at_all_is_possible() -> None:
    door = admission(Clock(), max_queue=0)
    door.enter()
    with pytest.raises(Refused):
        door.enter()


def test_retry_after_comes_from_the_queue_and_the_recent_service_time() -> None:
    clock = Clock()
    door = admission(clock, slots=2, max_queue=2)
    serve(door, clock, 4)
    for _ in range(4):
        door.enter()
    with pytest.raises(Refused) as refused:
        door.enter()
    assert refused.value.retry_after == (2 + 1) * 4 / 2


def test_a_wait_that_would_be_too_long_is_refused_at_once() -> None:
    clock = Clock()
    door = admission(clock, max_queue=100, max_wait=30)
    serve(door, clock, 12)
    door.enter()
    door.enter()  # expects 12 s
    door.enter()  # expects 24 s
    with pytest.raises(Refused) as refused:
        door.enter()
    assert refused.value.reason is Refusal.WAIT_TOO_LONG
    assert refused.value.retry_after == 36


def test_the_service_time_follows_recent_requests_and_forgets_cancelled_ones() -> None:
    clock = Clock()
    door = admission(clock)
    serve(door, clock, 10)
    serve(door, clock, 20)
    assert door.service_time == 12
    ticket = door.enter()
    clock.now += 1000
    ticket.release(completed=False)
    assert door.service_time == 12


def test_a_wait_in_the_queue_ends_with_a_refusal() -> None:
    clock = Clock()
    door = admission(clock, max_wait=30)
    door.enter()
    waiting = door.enter()
    assert waiting.wait(0) is False
    clock.now += 30
    with pytest.raises(Refused) as refused:
        waiting.wait(0)
    assert refused.value.reason is Refusal.QUEUE_TIMEOUT
    assert door.queued() == 0
    waiting.release()
    assert door.in_flight == 1


def test_interactive_goes_first_and_batch_gets_one_slot_in_four() -> None:
    door = admission(Clock(), max_queue=20)
    holding = door.enter()
    tickets = [door.enter(Priority.BATCH) for _ in range(2)] + [door.enter() for _ in range(8)]
    order = []
    while door.queued():
        holding.release()
        holding = next(ticket for ticket in tickets if ticket.granted)
        order.append(holding.priority.value[0])
    assert "".join(order) == "iiibiiibii"


def test_the_expected_wait_knows_the_order_of_the_classes() -> None:
    clock = Clock()
    door = admission(clock, max_queue=20, max_wait=6)
    serve(door, clock, 1)
    door.enter()
    for _ in range(3):
        door.enter(Priority.BATCH)
    for _ in range(4):
        door.enter()  # one batch request at most comes before each of these, so they fit
    with pytest.raises(Refused) as refused:
        door.enter(Priority.BATCH)
    assert refused.value.retry_after == 3 + 4 + 1


def test_a_waiting_thread_wakes_when_its_slot_is_there() -> None:
    door = Admission(slots=1, max_queue=1, max_wait=60)
    holding, waiting = door.enter(), door.enter()
    woken = threading.Event()

    def wait() -> None:
        if waiting.wait(60):
            woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(thread.is_alive)
    holding.release()
    thread.join(10)
    assert woken.is_set()


@pytest.mark.parametrize(("greedy", "modest"), [(2.0, 2.0), (10.0, 1.0), (4.0, 0.2)])
def test_two_keys_share_the_slots_fairly_whatever_each_demands(greedy: float, modest: float) -> None:
    """Demands are in capacities: each key gets what it asks for up to a half, and what the other leaves."""
    clock = Clock()
    door = admission(clock, slots=4, max_queue=60, max_wait=1e9)
    served, tickets = {"greedy": 0, "modest": 0}, list[Ticket]()
    gaps = {"greedy": 1 / (4 * greedy), "modest": 1 / (4 * modest)}  # a request takes its slot for a second
    until = clock.now + 150
    due = dict.fromkeys(served, clock.now)
    while clock.now < until:
        clock.now += 0.02
        for ticket in [each for each in tickets if each.granted and clock.now >= each.granted_at + 1]:
            ticket.release(completed=True)
            tickets.remove(ticket)
            served[str(ticket.key)] += clock.now > until - 120
        for key in served:
            while due[key] <= clock.now:
                due[key] += gaps[key]
                with contextlib.suppress(Refused):
                    tickets.append(door.enter(key=key))
    total = sum(served.values())
    fair = min(modest, max(0.5, 1 - greedy))
    assert total == pytest.approx(4 * 120, rel=0.03)
    assert served["modest"] / total == pytest.approx(fair, abs=0.05)


def test_one_keys_thousand_requests_let_anothers_one_through() -> None:
    clock = Clock()
    door = admission(clock, slots=2, max_queue=50)
    serve(door, clock, 1)
    tickets = []
    for _ in range(1000):
        with contextlib.suppress(Refused):
            tickets.append(door.enter(key="greedy"))
    assert len(tickets) == 42  # four fifths of 52
    clock.now += 0.5
    modest = door.enter(key="modest")
    tickets[0].release(completed=True)
    tickets[1].release(completed=True)
    assert modest.granted


@pytest.mark.parametrize("short", [0, 20])
def test_a_flood_goes_first_neither_after_a_start_nor_after_short_requests_of_its_key(short: int) -> None:
    clock = Clock()
    door = admission(clock, slots=2, max_queue=50)
    for _ in range(short):
        ticket = door.enter(key="greedy")
        clock.now += 0.01
        ticket.release(completed=True)
    tickets = [door.enter(key="greedy") for _ in range(42)]
    clock.now += 0.5
    first, second = door.enter(key="modest"), door.enter(key="modest")
    tickets[0].release(completed=True)
    assert first.granted
    tickets[1].release(completed=True)
    tickets[2].release(completed=True)
    assert (second.granted, tickets[3].granted) == (True, False)


def test_a_key_may_take_every_slot_however_short_the_queue() -> None:
    door = admission(Clock(), slots=8, max_queue=0)
    assert all(door.enter(key="only").granted for _ in range(8))


def test_a_keys_own_requests_keep_their_order_when_the_engine_gets_faster() -> None:
    clock = Clock()
    door = admission(clock, max_queue=10, max_wait=1000)
    serve(door, clock, 100)
    running, *waiting = (door.enter(key="only") for _ in range(4))
    clock.now += 0.1
    running.release(completed=True)
    later = door.enter(key="only")
    assert waiting[0].granted
    assert later.order >= waiting[-1].order


def test_a_smoke_test_goes_first_and_has_its_place_whatever_waits() -> None:
    clock = Clock()
    door = admission(clock, max_queue=1, max_wait=30)
    serve(door, clock, 20)
    running, waiting = door.enter(key="public"), door.enter(Priority.BATCH, key="public")
    with pytest.raises(Refused):
        door.enter(key="public")
    smoke = door.enter(Priority.SMOKE, key="smoke")
    with pytest.raises(Refused):
        door.enter(key="public")
    clock.now += 20
    running.release(completed=True)
    assert (smoke.granted, waiting.granted) == (True, False)
    smoke.release(completed=True)
    assert waiting.granted


@pytest.mark.parametrize(("slots", "places"), [(1, 1), (2, 2), (8, 2)])
def test_smoke_tests_have_few_places_whatever_they_ask_for(slots: int, places: int) -> None:
    door = admission(Clock(), slots=slots)
    tickets = [door.enter(Priority.SMOKE) for _ in range(places)]
    with pytest.raises(Refused) as refused:
        door.enter(Priority.SMOKE)
    assert refused.value.reason is Refusal.QUEUE_FULL
    tickets[0].release()
    door.enter(Priority.SMOKE)


def test_a_smoke_test_is_not_refused_for_a_wait_that_would_be_too_long() -> None:
    clock = Clock()
    door = admission(clock, max_wait=30)
    serve(door, clock, 100)
    door.enter()
    with pytest.raises(Refused):
        door.enter()
    assert not door.enter(Priority.SMOKE).granted


class AdmissionMachine(RuleBasedStateMachine):
    """Any order of entering, releasing and time passing keeps the books right."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.door = admission(self.clock, slots=2, max_queue=3, max_wait=5)
        self.live: list[Ticket] = []

    @rule(target=tickets, priority=strategies.sampled_from(Priority))
    def enter(self, priority: Priority) -> Ticket | None:
        try:
            ticket = self.door.enter(priority)
        except Refused as refused:
            assert refused.retry_after > 0
            assert self.door.in_flight == 2
            return None
        self.live.append(ticket)
        return ticket

    @rule(ticket=consumes(tickets), completed=strategies.booleans())
    def release(self, ticket: Ticket | None, completed: bool) -> None:
        if ticket is not None:
            self.clock.now += 0.001  # no work takes no time at all
            ticket.release(completed=completed)
            ticket.release(completed=completed)
            if ticket in self.live:
                self.live.remove(ticket)

    @rule(ticket=tickets)
    def wait(self, ticket: Ticket | None) -> None:
        if ticket in self.live and ticket is not None:
            try:
                assert ticket.wait(0) is ticket.granted
            except Refused:
                self.live.remove(ticket)

    @rule(seconds=strategies.floats(0, 6))
    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def the_books_are_right(self) -> None:
        assert self.door.in_flight == sum(ticket.granted for ticket in self.live) <= 2
        assert self.door.queued() == sum(not ticket.granted for ticket in self.live) <= 3 + SMOKE_PLACES
        assert sum(ticket.priority is Priority.SMOKE for ticket in self.live) <= SMOKE_PLACES
        assert self.door.queued() == 0 or self.door.in_flight == 2  # no slot idles while a request waits


AdmissionMachine.TestCase.settings = hypothesis_settings(max_examples=60)
TestAdmissionMachine = AdmissionMachine.TestCase
