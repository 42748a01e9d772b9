"""The connections of a worker: the phase of each, its deadline, and which one is closed when there are too many."""

import time
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Any

from service.intake import Incoming
from service.outbox import Budget, Outbox


class Phase(Enum):
    """What a connection is doing. A phase has one time limit for all, so its oldest connection expires first."""

    IDLE = auto()  # between two requests
    HEAD = auto()  # the request line and headers are coming
    BODY = auto()  # the body is coming
    WAITING = auto()  # in the lane (service/lane.py)
    RUNNING = auto()  # a thread is answering
    SENDING = auto()  # the answer is complete, and the client is still receiving it
    CLOSING = auto()  # all is sent; what still comes is read and dropped, because a reset would lose the answer


# When there are too many connections, the one that has been in its phase for longest is closed: honest clients are
# quick, so most of the others aren't. These seconds are subtracted from its time in a phase in which a client has a
# whole request or an answer to lose.
SPARABLE = {Phase.IDLE: 0, Phase.CLOSING: 0, Phase.HEAD: 0, Phase.BODY: 0, Phase.WAITING: 30, Phase.SENDING: 30}


class Connection:
    """One client's connection; gunicorn's handle_request() reads `sock`, `client` and `server`."""

    def __init__(self, sock: Outbox, client: Any, server: Any, incoming: Incoming, budget: Budget) -> None:
        self.sock, self.client, self.server, self.incoming = sock, client, server, incoming
        self.phase: Phase | None = None
        self.since = self.deadline = 0.0  # of the phase, on the worker's clock
        self.request: Any = None  # gunicorn's Request, once it is complete
        self.keep = False  # open for another request
        self.registered: Any = None  # the events that the poller watches
        self.skipped = 0  # bytes dropped while closing
        self._budget, self._held = budget, 0

    def hold(self, amount: int) -> None:
        """Set how many bytes of a request are in memory."""
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
    """All connections, by phase. lengths: the seconds that each phase may last, without limit if not given."""

    def __init__(self, lengths: dict[Phase, float], clock: Callable[[], float] = time.monotonic) -> None:
        self._lengths, self._clock = lengths, clock
        self._phases: dict[Phase, dict[Connection, None]] = {phase: {} for phase in Phase}

    def enter(self, connection: Connection, phase: Phase, *, within: float | None = None) -> None:
        """Move a connection into a phase; within: a limit in seconds other than the phase's own."""
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
        """Return the connections in these phases, each phase's oldest first."""
        return [connection for phase in phases for connection in self._phases[phase]]

    def due(self) -> Iterator[Connection]:
        """Yield the connections past their deadline; the caller must move each out of its phase."""
        now = self._clock()
        for connections in self._phases.values():
            while connections and (oldest := next(iter(connections))).deadline <= now:
                yield oldest

    def cap(self, seconds: float, *phases: Phase) -> None:
        """Limit the connections in these phases to `seconds` from now."""
        latest = self._clock() + seconds
        for connection in self.of(*phases):
            connection.deadline = min(connection.deadline, latest)

    def oldest_sparable(self, newest: Connection | None = None) -> Connection | None:
        """Return the connection to close when there are too many: the newest only if there is no other."""
        oldest = {next(iter(self._phases[phase]), None): younger for phase, younger in SPARABLE.items()}
        ages = {each: each.since + younger for each, younger in oldest.items() if each not in (None, newest)}
        return min(ages, key=ages.__getitem__, default=newest)

    def greediest(self) -> Connection | None:
        """Return the unfinished upload with the largest product of bytes and seconds."""
        now = self._clock()
        uploads = self.of(Phase.HEAD, Phase.BODY)
        return max(uploads, key=lambda each: each.held * (now - each.since), default=None)

    def unfinished(self) -> int:
        """Return the bytes that unfinished uploads hold."""
        return sum(connection.held for connection in self.of(Phase.HEAD, Phase.BODY))
