"""Requests that cost much to check: one at a time, so that they don't cost all others theirs. Knows no sockets."""

from collections import Counter
from collections.abc import Callable

from service.connections import Connection

LARGE = 32_768  # bytes; checking what is smaller takes a few milliseconds at most
PLACES = 64  # requests that wait; each may take some tenths of a second
PLACES_EACH = 32  # of them from one address, which may be a load balancer's
# In the body of whatever has pictures: their fields are `images`, `image` and `image_url`; letters may be escaped.
PICTURES = (b'"image', rb"\u006", rb"\u004")


class Lane:
    """Its owner must tell of every connection that enters, once it has been checked or waits no more.

    start: begins with a connection's request, in a thread.
    """

    def __init__(self, start: Callable[[Connection], None]) -> None:
        self._start = start
        self._first: Connection | None = None
        self._waiting: dict[Connection, None] = {}  # in order
        self._places: Counter[str] = Counter()

    def has_room(self, connection: Connection) -> bool:
        """Say whether another request of this connection's address may wait."""
        return len(self._waiting) < PLACES and self._places[address(connection)] < PLACES_EACH

    def checks(self, connection: Connection) -> bool:
        """Say whether this is the one that is checked now; may be called from its thread."""
        return connection is self._first

    def enter(self, connection: Connection) -> None:
        """Start a connection's request, now or when those before it have been checked."""
        self._waiting[connection] = None
        self._places[address(connection)] += 1
        self._go_on()

    def leave(self, connection: Connection) -> None:
        """Go on without a connection. A second call does nothing."""
        if connection is self._first:
            self._first = None
            self._go_on()
        elif connection in self._waiting:
            self._forget(connection)

    def _go_on(self) -> None:
        while self._first is None and self._waiting:
            self._first = connection = next(iter(self._waiting))
            self._forget(connection)
            self._start(connection)

    def _forget(self, connection: Connection) -> None:
        del self._waiting[connection]
        self._places[address(connection)] -= 1
        self._places += Counter()  # drops those of 0


def address(connection: Connection) -> str:
    """Return the address of a connection's client, without the port; "" for a socket in the file system."""
    return connection.client[0] if isinstance(connection.client, tuple) else ""


def costs_much(connection: Connection) -> bool:
    """Say whether a whole request may take more than some milliseconds to check."""
    body = connection.request.body.getvalue()  # without a copy
    return len(body) > LARGE or any(sign in body for sign in PICTURES)
