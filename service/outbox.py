"""The sending side of a connection: what the client doesn't take at once waits in memory, and never holds a thread."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class Budget:
    """Bytes that many connections may hold together; all methods may be called from any thread."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used, self._lock = limit, 0, threading.Lock()

    def take(self, amount: int) -> None:
        """Count `amount` more bytes; a negative one gives them back."""
        with self._lock:
            self.used += amount

    @property
    def exceeded(self) -> bool:
        """Say whether more is held than may be."""
        return self.used > self.limit


class Outbox:
    """A connection's socket as gunicorn's Response and the watch of its client need it; sendall() never waits.

    blocked: called, from the sending thread, when the client takes no more at present, or all clients together have
    left too much; then the event loop calls flush() whenever there is room.
    """

    def __init__(self, sock: socket.socket, budget: Budget, blocked: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock, self._budget, self._blocked = sock, budget, blocked
        self._lock = threading.Lock()
        self._rest = bytearray()
        self._cut = False
        self.settled: Callable[[], None] = lambda: None  # called once the request's bytes aren't needed any more
        self.recv = sock.recv

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._sock.fileno()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    @property
    def pending(self) -> int:
        """Return the bytes that the client hasn't taken yet."""
        return len(self._rest)

    def sendall(self, data: bytes) -> None:
        """Send what the client takes at once, and keep the rest; raises OSError when the connection has ended."""
        with self._lock:
            if self._cut:
                raise BrokenPipeError
            sent = 0 if self._rest else self._send(data)
            if sent == len(data):
                return
            first = not self._rest
            self._rest += memoryview(data)[sent:]
            self._budget.take(len(data) - sent)
        if first or self._budget.exceeded:
            self._blocked()

    send = sendall  # gunicorn sends "100 Continue" so

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0

    def flush(self) -> bool:
        """Send more of what waits, and say whether all of it is out; raises OSError when the connection has ended."""
        with self._lock:
            sent = self._send(self._rest) if self._rest else 0
            del self._rest[:sent]
            self._budget.take(-sent)
            return not self._rest

    def cut(self) -> None:
        """End the connection for both sides, so that whoever still writes to it or watches it learns of it."""
        with self._lock:
            self._cut = True
            self._budget.take(-len(self._rest))
            self._rest = bytearray()
        with suppress(OSError):  # the client was faster
            self._sock.shutdown(socket.SHUT_RDWR)

    def finish(self) -> None:
        """Tell the client that nothing more will come."""
        with suppress(OSError):  # the client was faster
            self._sock.shutdown(socket.SHUT_WR)

    def shutdown(self, _how: int) -> None:
        """End the connection where gunicorn closes one in a thread: its socket is the event loop's to close."""
        self.cut()
        raise BrokenPipeError

    close = cut

    def release(self) -> None:
        """Give the socket back; what waits is lost."""
        self.cut()
        self._sock.close()
