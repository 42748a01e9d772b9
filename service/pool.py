"""The connections to the engine: kept open for reuse, and cut if the engine is stuck."""

import contextlib
import logging
import math
import select
import socket
import time
from typing import Any

from service.client import ClientConnection
from service.engine_errors import RETRY_AFTER, EngineDown, upstream_error
from service.errors import ClientGone, GenerationTimeout

log = logging.getLogger("sluice")

CONNECT_TIMEOUT = 2.0  # seconds; Ollama is on this host or in this pod


class WatchedSocket(socket.socket):
    """A socket to Ollama whose waits also end when the client disconnects or the deadline passes."""

    def __init__(self, plain: socket.socket, client: ClientConnection, deadline: float) -> None:
        super().__init__(fileno=plain.detach())
        self.setblocking(False)
        self.is_cut = False  # by cut()
        self.watch(client, deadline)

    def watch(self, client: ClientConnection, deadline: float) -> None:
        """Make every wait from now on end if `client` disconnects, or at `deadline`, by time.monotonic()."""
        self._client, self._deadline, self._poll = client, deadline, select.poll()
        client.watch(self._poll)

    def is_silent(self) -> bool:
        """Say whether there is nothing to read, not even the other side's close."""
        poll = select.poll()
        poll.register(self, select.POLLIN)
        return not poll.poll(0)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        """Read; also raises ClientGone or GenerationTimeout."""
        self._await(select.POLLIN)
        return super().recv_into(*args, **kwargs)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Write; also raises ClientGone or GenerationTimeout."""
        rest = memoryview(data)
        while rest:
            self._await(select.POLLOUT)
            rest = rest[self.send(rest, flags) :]

    def cut(self) -> None:
        """Shut the connection down, and with it the exchange in progress."""
        self.is_cut = True
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)

    def _await(self, event: int) -> None:
        self._poll.register(self, event)
        events = self._poll.poll(max(0.0, self._deadline - time.monotonic()) * 1000)
        if self._client.reported(events):
            raise ClientGone
        if not events:
            raise GenerationTimeout("the model did not finish in time", hint="ask for fewer tokens with max_tokens")


class Pool:
    """All connections to the engine. Each call uses one alone, so that it can be ended separately."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._idle: list[WatchedSocket] = []  # at most as many as there were concurrent calls
        self._busy: set[WatchedSocket] = set()
        self._down_since: float | None = -math.inf  # until the engine is reached for the first time
        self._cuts = 0
        self.heard = -math.inf  # when the engine last sent a result, by time.monotonic()

    @property
    def down_for(self) -> float:
        """Return for how many seconds connections have failed; infinity before the first success."""
        return 0.0 if self._down_since is None else time.monotonic() - self._down_since

    def take(self, client: ClientConnection, deadline: float) -> WatchedSocket | None:
        """Return a connection that an earlier call left open; None if there is none that the engine hasn't closed.

        client, deadline: see WatchedSocket.watch().
        """
        with contextlib.suppress(IndexError):
            while sock := self._idle.pop():
                if sock.is_silent():
                    sock.watch(client, deadline)
                    self._busy.add(sock)
                    return sock
                sock.close()
        return None

    def connect(self, client: ClientConnection, deadline: float, *, stale: bool = False) -> WatchedSocket:
        """Return a new connection; raises EngineDown, or EngineDied if a kept one was lost with the request on it.

        client, deadline: see WatchedSocket.watch(). stale: whether a kept one was lost.
        """
        cuts = self._cuts
        try:
            plain = socket.create_connection(self._address, timeout=CONNECT_TIMEOUT)
        except OSError as error:
            if self._down_since is None or self._down_since == -math.inf:
                log.warning("Ollama can't be reached: %s", error)
            if self._down_since is None:
                self._down_since = time.monotonic()
            if stale:
                raise upstream_error(error) from error
            raise EngineDown("the model server can't be reached", retry_after=RETRY_AFTER) from error
        self._down_since = None
        sock = WatchedSocket(plain, client, deadline)
        self._busy.add(sock)
        if self._cuts != cuts:  # it may lead to the engine that is being restarted
            sock.cut()
        return sock

    def give_back(self, sock: WatchedSocket, *, reusable: bool) -> None:
        """Take a connection back from a call, to keep or to close it. A second call does nothing."""
        if sock not in self._busy:
            return
        self._busy.discard(sock)
        if reusable:
            self._idle.append(sock)
        else:
            sock.close()

    def forget(self) -> None:
        """Close the idle connections."""
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def cut(self) -> None:
        """Cut the connections of all calls; their threads get an EngineDied with `cut`."""
        self._cuts += 1
        for sock in list(self._busy):
            sock.cut()
