"""The sending side of a connection: what the client doesn't accept at once is buffered, so that no thread waits."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class Budget:
    """A limit on the bytes of many connections together. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used, self._lock = limit, 0, threading.Lock()

    def take(self, amount: int) -> None:
        """Count `amount` more bytes; a negative amount releases them."""
        with self._lock:
            self.used += amount

    @property
    def exceeded(self) -> bool:
        """Say whether the limit is exceeded."""
        return self.used > self.limit


class Outbox:
    """A connection's socket as gunicorn's Response and ClientConnection need it; sendall() never blocks.

    blocked: called, from the sending thread, when the client accepts no more at present, or when the budget of all
    clients is exceeded; then the event loop calls flush() whenever the socket is writable.
    """

    def __init__(self, sock: socket.socket, budget: Budget, blocked: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock, self._budget, self._blocked = sock, budget, blocked
        self._lock = threading.Lock()
        self._rest = bytearray()
        self._cut = False
        self.settled: Callable[[], None] = lambda: None  # called once the request's bytes are no longer needed
        self.recv = sock.recv

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._sock.fileno()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    @property
    def pending(self) -> int:
        """Return the number of buffered bytes."""
        return len(self._rest)

    def sendall(self, data: bytes) -> None:
        """Send what the client accepts at once, and buffer the rest; raises OSError if the connection is closed."""
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

    send = sendall  # used by gunicorn for "100 Continue"

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0

    def flush(self) -> bool:
        """Send more of the buffer, and say whether it is empty; raises OSError if the connection is closed."""
        with self._lock:
            sent = self._send(self._rest) if self._rest else 0
            del self._rest[:sent]
            self._budget.take(-sent)
            return not self._rest

    def cut(self) -> None:
        """Shut the connection down, so that whoever still writes to it or watches it notices."""
        with self._lock:
            self._cut = True
            self._budget.take(-len(self._rest))
            self._rest = bytearray()
        with suppress(OSError):  # the client has closed it
            self._sock.shutdown(socket.SHUT_RDWR)

    def finish(self) -> None:
        """Close the sending half."""
        with suppress(OSError):  # the client has closed it
            self._sock.shutdown(socket.SHUT_WR)

    def shutdown(self, _how: int) -> None:
        """Shut the connection down where gunicorn, in a thread, would close it: only the event loop closes sockets."""
        self.cut()
        raise BrokenPipeError

    close = cut

    def release(self) -> None:
        """Close the socket; what is buffered is lost."""
        self.cut()
        self._sock.close()
