"""The client's connection, watched so that work stops when the client disconnects."""

import select
import socket

from service.outbox import Outbox


class ClientConnection:
    """The connection that a request came on; without a socket (in tests) the client never disconnects.

    A client that has closed its sending half counts as gone, as with nginx and HAProxy.
    """

    def __init__(self, sock: socket.socket | Outbox | None) -> None:
        self._sock = sock
        self._poll = select.poll()
        self.watch(self._poll)

    def watch(self, poll: select.poll) -> None:
        """Have `poll` report when this client disconnects, but not when it sends more."""
        if self._sock is not None:
            poll.register(self._sock, select.POLLRDHUP)

    def reported(self, events: list[tuple[int, int]]) -> bool:
        """Say whether poll events report that this client has disconnected."""
        return self._sock is not None and any(fd == self._sock.fileno() for fd, _ in events)

    def settled(self) -> None:
        """Report that the request has been read and checked, so that its bytes no longer count."""
        if isinstance(self._sock, Outbox):
            self._sock.settled()

    def gone(self) -> bool:
        """Say whether the client has disconnected."""
        return self.reported(self._poll.poll(0))
