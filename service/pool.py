"""The connections to the engine: kept while they are good, and cut where the engine is stuck."""

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
    """A non-blocking socket to Ollama whose waits end when it is ready, the client leaves or the deadline passes."""

    def __init__(self, plain: socket.socket, client: ClientConnection, deadline: float) -> None:
        super().__init__(fileno=plain.detach())
        self.setblocking(False)
        self.is_cut = False  # broken off by us
        self.watch(client, deadline)

    def watch(self, client: ClientConnection, deadline: float) -> None:
        """Have every wait from now on end with `client`'s leaving, or at `deadline` by time.monotonic()."""
        self._client, self._deadline, self._poll = client, deadline, select.poll()
        client.watch(self._poll)

    def is_silent(self) -> bool:
        """Say whether there is nothing to read, not even the end of the connection."""
        poll = select.poll()
        poll.register(self, select.POLLIN)
        return not poll.poll(0)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        """Read as a socket does; raises ClientGone or GenerationTimeout."""
        self._await(select.POLLIN)
        return super().recv_into(*args, **kwargs)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Write as a socket does; raises ClientGone or GenerationTimeout."""
        rest = memoryview(data)
        while rest:
            self._await(select.POLLOUT)
            rest = rest[self.send(rest, flags) :]

    def cut(self) -> None:
        """Break off what is under way."""
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
    """All connections to the engine. A call has one to itself, so that it can be ended alone."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._idle: list[WatchedSocket] = []  # at most as many as there were calls at once
        self._busy: set[WatchedSocket] = set()
        self._down_since: float | None = -math.inf  # until the engine is reached for the first time
        self._cuts = 0
        self.heard = -math.inf  # when a part of what the model computes came last, by time.monotonic()

    @property
    def down_for(self) -> float:
        """Return the seconds for which nothing has accepted a connection; infinity before the first."""
        return 0.0 if self._down_since is None else time.monotonic() - self._down_since

    def take(self, client: ClientConnection, deadline: float) -> WatchedSocket | None:
        """Return a connection that an earlier call left open, unless the engine has closed all of them since.

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
        if self._cuts != cuts:  # it would go to the engine that is being ended
            sock.cut()
        return sock

    def give_back(self, sock: WatchedSocket, *, reusable: bool) -> None:
        """End a call's use of a connection, which is kept for another one or closed. A second call does nothing."""
        if sock not in self._busy:
            return
        self._busy.discard(sock)
        if reusable:
            self._idle.append(sock)
        else:
            sock.close()

    def forget(self) -> None:
        """Close the connections that no call uses."""
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def cut(self) -> None:
        """Break off every call, whose thread then gets an EngineDied that says so."""
        self._cuts += 1
        for sock in list(self._busy):
            sock.cut()
