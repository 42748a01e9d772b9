"""The connections of a worker: what each is doing, until when it may, and which one goes when there is no room."""

import time
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Any

from service.intake import Incoming
from service.outbox import Budget, Outbox


class Phase(Enum):
    """What a connection is doing. Each phase has one length for all, so its oldest connection is due first."""

    IDLE = auto()  # between two requests
    HEAD = auto()  # a request line and headers come
    BODY = auto()  # a body comes
    WAITING = auto()  # for those before it in the lane (service/lane.py)
    RUNNING = auto()  # a thread answers
    SENDING = auto()  # the answer is complete, and the client is taking the rest of it
    CLOSING = auto()  # we have said all, and read over what the client still sends, so that it isn't reset


# When there are too many connections, the one goes that has been in its phase for longest: honest clients are quick, so
# the table is full of others. Some count as so many seconds younger: they have a whole request or an answer to lose.
SPARABLE = {Phase.IDLE: 0, Phase.CLOSING: 0, Phase.HEAD: 0, Phase.BODY: 0, Phase.WAITING: 30, Phase.SENDING: 30}


class Connection:
    """One client's connection; gunicorn's handle_request() reads `sock`, `client` and `server`."""

    def __init__(self, sock: Outbox, client: Any, server: Any, incoming: Incoming, budget: Budget) -> None:
        self.sock, self.client, self.server, self.incoming = sock, client, server, incoming
        self.phase: Phase | None = None
        self.since = self.deadline = 0.0  # of the phase, by the worker's clock
        self.request: Any = None  # gunicorn's Request, once it is whole
        self.keep = False  # for another request
        self.registered: Any = None  # for which events
        self.skipped = 0  # bytes read over while closing
        self._budget, self._held = budget, 0

    def hold(self, amount: int) -> None:
        """Count the bytes of a request that are in memory."""
        self._budget.take(amount - self._held)
        self._held = amount

    @property
    def held(self) -> int:
        """Return the bytes of a request that are in memory."""
        return self._held

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self.sock.fileno()


class Connections:
    """All connections, by phase. lengths: the seconds that a phase may last; those without one have no end."""

    def __init__(self, lengths: dict[Phase, float], clock: Callable[[], float] = time.monotonic) -> None:
        self._lengths, self._clock = lengths, clock
        self._phases: dict[Phase, dict[Connection, None]] = {phase: {} for phase in Phase}

    def enter(self, connection: Connection, phase: Phase, *, within: float | None = None) -> None:
        """Have a connection begin a phase; within: seconds, where it is another than the phase's own."""
        self.leave(connection)
        now = self._clock()
        length = self._lengths.get(phase, float("inf")) if within is None else within
        connection.phase, connection.since, connection.deadline = phase, now, now + length
        self._phases[phase][connection] = None

    def leave(self, connection: Connection) -> None:
        """Forget a connection."""
        if connection.phase is not None:
            del self._phases[connection.phase][connection]
            connection.phase = None

    def of(self, *phases: Phase) -> list[Connection]:
        """Return the connections in some phases, each phase's oldest first."""
        return [connection for phase in phases for connection in self._phases[phase]]

    def due(self) -> Iterator[Connection]:
        """Yield the connections whose time is over; whoever asks must have each of them leave its phase."""
        now = self._clock()
        for connections in self._phases.values():
            while connections and (oldest := next(iter(connections))).deadline <= now:
                yield oldest

    def cap(self, seconds: float, *phases: Phase) -> None:
        """Have the connections in some phases end within `seconds`."""
        latest = self._clock() + seconds
        for connection in self.of(*phases):
            connection.deadline = min(connection.deadline, latest)

    def oldest_sparable(self, newest: Connection | None = None) -> Connection | None:
        """Return the connection that goes when there are too many: the newest only where there is no other."""
        oldest = {next(iter(self._phases[phase]), None): younger for phase, younger in SPARABLE.items()}
        ages = {each: each.since + younger for each, younger in oldest.items() if each not in (None, newest)}
        return min(ages, key=ages.__getitem__, default=newest)

    def greediest(self) -> Connection | None:
        """Return the unfinished upload that has held most bytes for longest."""
        now = self._clock()
        uploads = self.of(Phase.HEAD, Phase.BODY)
        return max(uploads, key=lambda each: each.held * (now - each.since), default=None)

    def unfinished(self) -> int:
        """Return the bytes that unfinished uploads hold."""
        return sum(connection.held for connection in self.of(Phase.HEAD, Phase.BODY))
