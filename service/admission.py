"""Who may generate now, who waits, and who is told to come back: a bounded queue before a number of slots.

Requests of different keys share the slots fairly, in turns: a key's request has the turn after that of its previous
one or, if it has no other, the turn that is being served (start-time fair queueing: Goyal, Vin and Cheng, IEEE/ACM
Transactions on Networking, 1997). So a key's thousand requests don't stand before another's one, however long each
takes. cdk8s_manifests/haproxy.cfg comes close to that over all pods.

Knows neither HTTP nor Ollama. Everything but `Ticket.wait` runs on the clock it is given, so a simulation can use it.
"""

import math
import threading
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable
from enum import Enum, StrEnum, auto

# While both classes wait, one slot in this many goes to batch, so that it never starves.
BATCH_SHARE = 4
# A key may take as many places as this many times those that are left, so all but a fifth of them, and leaves the rest
# to others: the dynamic thresholds of Choudhury and Hahne (IEEE/ACM Transactions on Networking, 1998).
GREED = 4
# Requests of the class smoke at once, and never more than there are slots. They are served before all others, in places
# of their own: few enough that whoever holds such a key can't take the service from everybody else.
SMOKE_PLACES = 2
# Weight of the newest service time in the moving average: about the last ten requests count.
RECENT = 0.2


class Priority(StrEnum):
    """The classes of requests: interactive ones go before batch ones, and the smoke test's before both."""

    INTERACTIVE = "interactive"
    BATCH = "batch"
    SMOKE = "smoke"


FOR_EVERYBODY = (Priority.INTERACTIVE, Priority.BATCH)  # the smoke test's needs a key that allows it


class Refusal(StrEnum):
    """Why a request didn't get a slot."""

    QUEUE_FULL = "queue_full"
    WAIT_TOO_LONG = "wait_too_long"
    QUEUE_TIMEOUT = "queue_timeout"


class Refused(Exception):
    """No slot, and `retry_after` seconds until one is expected."""

    def __init__(self, reason: Refusal, retry_after: float) -> None:
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after


class _State(Enum):
    WAITING = auto()
    HOLDING = auto()
    RELEASED = auto()


class Ticket:
    """A request's place: first in the queue, then in a slot, until it is released."""

    def __init__(self, admission: "Admission", priority: Priority, key: str | None, entered: float) -> None:
        self.priority, self.key, self.entered, self.granted_at = priority, key, entered, entered
        self.order = 0  # its turn: the smallest of a class is served next
        self.busy_before = 0.0  # the admission's slot-seconds when this got its slot
        self._admission, self._state, self._granted = admission, _State.WAITING, threading.Event()

    @property
    def granted(self) -> bool:
        """Whether this ticket holds a slot."""
        return self._state is _State.HOLDING

    @property
    def queued_for(self) -> float:
        """Return the seconds between entering and getting the slot."""
        return self.granted_at - self.entered

    @property
    def busy_slots(self) -> float:
        """Return how many slots were taken on average since this got its own, which counts too."""
        return self._admission._busy_since(self)

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the slot and say whether it is there.

        Raises Refused once the ticket has waited for as long as the queue allows; it is released then.
        """
        if self._granted.wait(timeout):
            return True
        return self._admission._still_waiting(self)

    def release(self, *, completed: bool = False) -> None:
        """Give the place back; the second call does nothing.

        `completed` says that the work ran to its end, so that its duration tells how long the next will take.
        """
        self._admission._release(self, completed)


class Admission:
    """Slots, and a queue that is bounded by count and by time.

    slots: requests that run at once. max_queue: requests that may wait. max_wait: seconds a request may wait.
    undivided: places that one key may take however few are left; None: as many as there are slots.
    """

    def __init__(
        self,
        *,
        slots: int,
        max_queue: int,
        max_wait: float,
        undivided: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._undivided = slots if undivided is None else undivided
        self.slots, self.max_queue, self.max_wait = slots, max_queue, max_wait
        self._clock, self._lock = clock, threading.Lock()
        self._waiting: dict[Priority, list[Ticket]] = {priority: [] for priority in Priority}
        self._places: Counter[str | None] = Counter()  # in slots and queue, by key
        self._turns: dict[str | None, Counter[Priority]] = {}  # the next turn of each of these keys, by class
        self._served: Counter[Priority] = Counter()  # the latest turn that was served, by class
        self._smoke_places = 0  # of them, those of the class smoke
        self._busy = 0
        self._slot_seconds, self._counted_at = 0.0, clock()  # for which slots were taken until then, all together
        self._grants_without_batch = 0
        self._service_time: float | None = None

    @property
    def in_flight(self) -> int:
        """Return how many slots are taken."""
        return self._busy

    def queued(self, priority: Priority | None = None) -> int:
        """Return how many requests wait, of one class or of all."""
        return sum(len(queue) for key, queue in self._waiting.items() if priority in (None, key))

    @property
    def service_time(self) -> float | None:
        """Return the recent seconds of a request in its slot, or None before the first has completed."""
        return self._service_time

    def enter(self, priority: Priority = Priority.INTERACTIVE, key: str | None = None) -> Ticket:
        """Take a slot or a place in the queue; never blocks. key: its name, None where there are no keys.

        Raises Refused where the queue is full, or where the expected wait is longer than `max_wait`.
        """
        with self._lock:
            ticket = self._newcomer(priority, key)
            wait = self._expected_wait(ticket)
            if not self._has_place(priority, key):
                raise Refused(Refusal.QUEUE_FULL, self.max_wait if wait is None else wait)
            if self._busy < self.slots:
                self._grant(ticket)
            elif wait is not None and wait > self.max_wait and priority is not Priority.SMOKE:
                raise Refused(Refusal.WAIT_TOO_LONG, wait)
            else:
                insort(self._waiting[priority], ticket, key=lambda each: each.order)
            self._places[key] += 1
            self._turns.setdefault(key, Counter())[priority] = ticket.order + 1
            self._smoke_places += priority is Priority.SMOKE
            return ticket

    def _has_place(self, priority: Priority, key: str | None) -> bool:
        if priority is Priority.SMOKE:
            return self._smoke_places < min(SMOKE_PLACES, self.slots)
        left = self.slots + self.max_queue - self._busy - self.queued()
        share = max(self._undivided, GREED * left) if key is not None else math.inf
        return left > 0 and self._places[key] < share

    def _newcomer(self, priority: Priority, key: str | None) -> Ticket:
        """Return a ticket whose turn comes after those of the requests that its key has sent."""
        ticket = Ticket(self, priority, key, self._clock())
        ticket.order = max(self._served[priority], self._turns.get(key, Counter())[priority])
        return ticket

    def _expected_wait(self, ticket: Ticket) -> float | None:
        """Return the seconds until a newcomer gets its slot, by the recent service time."""
        if self._service_time is None:
            return None
        before = sum(each.order <= ticket.order for each in self._waiting[ticket.priority])
        ahead = before
        if ticket.priority is not Priority.SMOKE:
            ahead += self.queued(Priority.SMOKE)
        if ticket.priority is Priority.INTERACTIVE:
            ahead += min(self.queued(Priority.BATCH), (before + 1) // (BATCH_SHARE - 1))
        elif ticket.priority is Priority.BATCH:
            ahead += min(self.queued(Priority.INTERACTIVE), (before + 1) * (BATCH_SHARE - 1))
        return (ahead + 1) * self._service_time / self.slots

    def _count(self) -> float:
        """Count the slot-seconds until now, before the number of taken slots changes, and return the time."""
        now = self._clock()
        self._slot_seconds += self._busy * (now - self._counted_at)
        self._counted_at = now
        return now

    def _busy_since(self, ticket: Ticket) -> float:
        with self._lock:
            held = self._count() - ticket.granted_at
            return (self._slot_seconds - ticket.busy_before) / held if held > 0 else float(self._busy)

    def _grant(self, ticket: Ticket) -> None:
        ticket._state, ticket.granted_at = _State.HOLDING, self._count()
        ticket.busy_before = self._slot_seconds
        self._served[ticket.priority] = max(self._served[ticket.priority], ticket.order)
        self._busy += 1
        ticket._granted.set()

    def _grant_next(self) -> None:
        if smoke := self._waiting[Priority.SMOKE]:
            self._grant(smoke.pop(0))
            return
        interactive, batch = self._waiting[Priority.INTERACTIVE], self._waiting[Priority.BATCH]
        turn_of_batch = not interactive or self._grants_without_batch >= BATCH_SHARE - 1
        queue = batch if batch and turn_of_batch else interactive
        self._grants_without_batch = self._grants_without_batch + 1 if batch and queue is interactive else 0
        if queue:
            self._grant(queue.pop(0))

    def _still_waiting(self, ticket: Ticket) -> bool:
        """Say whether a ticket has its slot by now; refuse it when its time in the queue is over."""
        with self._lock:
            if ticket.granted:
                return True
            if self._clock() - ticket.entered < self.max_wait:
                return False
            self._leave(ticket)
            wait = self._expected_wait(self._newcomer(ticket.priority, ticket.key))
            raise Refused(Refusal.QUEUE_TIMEOUT, wait or self.max_wait)

    def _leave(self, ticket: Ticket) -> None:
        if ticket._state is _State.WAITING:
            self._waiting[ticket.priority].remove(ticket)
        ticket._state = _State.RELEASED
        self._smoke_places -= ticket.priority is Priority.SMOKE
        self._places[ticket.key] -= 1
        if not self._places[ticket.key]:
            del self._places[ticket.key], self._turns[ticket.key]

    def _release(self, ticket: Ticket, completed: bool) -> None:
        with self._lock:
            held, released = ticket.granted, ticket._state is _State.RELEASED
            if not released:
                self._leave(ticket)
            if not held:
                return
            now = self._count()
            self._busy -= 1
            if completed:
                took = now - ticket.granted_at
                self._service_time = took if self._service_time is None else self._average(self._service_time, took)
            self._grant_next()

    @staticmethod
    def _average(before: float, newest: float) -> float:
        return before + RECENT * (newest - before)
