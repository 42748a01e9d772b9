"""Requests that are expensive to check: one at a time, so that they don't slow down the others. Knows no sockets."""

from collections import Counter
from collections.abc import Callable

from service.connections import Connection

LARGE = 32_768  # bytes; a smaller request takes a few milliseconds at most
PLACES = 64  # waiting requests; each may take some tenths of a second
PLACES_EACH = 32  # of one address, which may be a load balancer's
# In every body with images, whose fields are `images`, `image` and `image_url`; letters may be escaped.
PICTURES = (b'"image', rb"\u006", rb"\u004")


class Lane:
    """The owner must call leave() for every connection that enters, once it is checked or no longer waits.

    start: starts checking a connection's request, in a thread.
    """

    def __init__(self, start: Callable[[Connection], None]) -> None:
        self._start = start
        self._first: Connection | None = None
        self._waiting: dict[Connection, None] = {}  # in order of arrival
        self._places: Counter[str] = Counter()

    def has_room(self, connection: Connection) -> bool:
        """Say whether another request of this connection's address may wait."""
        return len(self._waiting) < PLACES and self._places[address(connection)] < PLACES_EACH

    def checks(self, connection: Connection) -> bool:
        """Say whether this connection is being checked; may be called from its thread."""
        return connection is self._first

    def enter(self, connection: Connection) -> None:
        """Check a connection's request, now or after those before it."""
        self._waiting[connection] = None
        self._places[address(connection)] += 1
        self._go_on()

    def leave(self, connection: Connection) -> None:
        """Remove a connection, and start the next one. A second call does nothing."""
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
        self._places += Counter()  # drops zero counts


def address(connection: Connection) -> str:
    """Return the address of a connection's client, without the port; "" for a Unix socket."""
    return connection.client[0] if isinstance(connection.client, tuple) else ""


def costs_much(connection: Connection) -> bool:
    """Say whether a complete request may take more than a few milliseconds to check."""
    body = connection.request.body.getvalue()  # without a copy
    return len(body) > LARGE or any(sign in body for sign in PICTURES)
