"""A stand-in for a load balancer that learns late: of a new target, and that one has gone."""

import itertools
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

CHUNK = 65536  # bytes
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of a connection that is reset when it is closed


@dataclass
class Balancer:
    """Passes each new connection on to one of its targets in turn, without a look at what is in it.

    register_seconds: from register() until a target gets connections. drain_seconds: from deregister() until it gets
    none. A connection without a target, or whose target refuses it, is reset.
    """

    register_seconds: float
    drain_seconds: float
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0), backlog=256))
    _threads: list[threading.Thread] = field(default_factory=list)
    _terms: dict[int, tuple[float, float]] = field(default_factory=dict)  # from when until when, by time.monotonic()
    _turn: Iterator[int] = field(default_factory=itertools.count)

    @property
    def port(self) -> int:
        """Return the port that clients connect to."""
        return int(self._listener.getsockname()[1])

    def register(self, port: int) -> None:
        """Take up a target that is ready."""
        self._terms[port] = time.monotonic() + self.register_seconds, float("inf")

    def deregister(self, port: int) -> None:
        """Begin to forget a target."""
        begin, _ = self._terms[port]
        self._terms[port] = begin, time.monotonic() + self.drain_seconds

    def sends_to(self, port: int) -> bool:
        """Say whether a target gets new connections: the condition of its pod's readiness gate."""
        begin, end = self._terms.get(port, (float("inf"), 0.0))
        return begin <= time.monotonic() < end

    def _next(self) -> int:
        """Return the target of the next connection, 0 without one."""
        serving = [port for port in self._terms if self.sends_to(port)]
        return serving[next(self._turn) % len(serving)] if serving else 0

    def _accept(self) -> None:
        with suppress(OSError):  # the end
            while True:
                client, _ = self._listener.accept()
                self._start(partial(self._pass_on, client))

    def _start(self, task: Callable[[], None]) -> None:
        thread = threading.Thread(target=task)
        self._threads.append(thread)
        thread.start()

    def _pass_on(self, client: socket.socket) -> None:
        with client:
            try:
                target = socket.create_connection(("127.0.0.1", self._next()))
            except OSError:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                return
            with target:
                back = threading.Thread(target=_copy, args=(target, client))
                back.start()
                _copy(client, target)
                back.join()

    def _stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Copy until the source ends, and end the sink; both end where one of them breaks."""
    try:
        while data := source.recv(CHUNK):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def balancer(*, register_seconds: float, drain_seconds: float) -> Iterator[Balancer]:
    """Run a load balancer without targets until the block ends, by when its clients must have left."""
    made = Balancer(register_seconds, drain_seconds)
    made._start(made._accept)
    try:
        yield made
    finally:
        made._stop()
