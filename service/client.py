"""The client's side of a request: its socket, watched so that a client that left stops the work."""

import select
import socket

from service.outbox import Outbox


class ClientConnection:
    """The connection a request came on; without a socket (in tests) it never leaves.

    A client that has closed its sending half counts as gone, as it does for nginx and HAProxy.
    """

    def __init__(self, sock: socket.socket | Outbox | None) -> None:
        self._sock = sock
        self._poll = select.poll()
        self.watch(self._poll)

    def watch(self, poll: select.poll) -> None:
        """Have `poll` report this client's leaving; further request bytes are none of its business."""
        if self._sock is not None:
            poll.register(self._sock, select.POLLRDHUP)

    def reported(self, events: list[tuple[int, int]]) -> bool:
        """Say whether poll events tell of this client's leaving."""
        return self._sock is not None and any(fd == self._sock.fileno() for fd, _ in events)

    def settled(self) -> None:
        """Say that the request has been read and checked, so that its bytes count no more."""
        if isinstance(self._sock, Outbox):
            self._sock.settled()

    def gone(self) -> bool:
        """Say whether the client has left by now."""
        return self.reported(self._poll.poll(0))
