"""All reading and writing of a worker's connections, in its event loop: a slow client never holds a thread.

A connection gets a thread once its request is complete (service/intake.py). What its client doesn't accept at once of
the answer is buffered (service/outbox.py). Every phase of a connection has a deadline (service/connections.py).
"""

import logging
import selectors
import socket
from collections.abc import Callable
from typing import Any

from gunicorn.config import Config
from gunicorn.http.errors import ParseException

from service.client import ClientConnection
from service.connections import Connection, Connections, Phase
from service.errors import RequestTimeout, Saturated, ServiceError
from service.intake import Incoming
from service.lane import Lane, costs_much
from service.metrics import Metrics
from service.outbox import Budget, Outbox
from service.room import Room
from service.settings import Settings

log = logging.getLogger("sluice")

LINGER = 2.0  # seconds that a stopping worker waits for silent connections, as gunicorn does for kept-alive ones
READ = 262_144  # bytes read from one connection before it is the next one's turn
AHEAD = 8_192  # pipelined bytes after a request; with more, that request is the connection's last
LONGEST_WAIT = 10.0  # seconds in the lane
CROWDED = "too many large requests come in at once"
SKIP = 4  # times MAX_BODY_BYTES that are read and dropped after a refusal, so that the client reads it
MIB = 1 << 20

Refuse = Callable[[Any, Outbox, Exception], None]


class Traffic:
    """The connections of a worker, from accept to close. Everything runs in the event loop, except _settled().

    defer: has the event loop call something. answer: hands a connection with a complete request to a thread.
    refuse: writes an error in answer to a request's head, if there is one.
    """

    def __init__(
        self,
        config: Config,
        settings: Settings,
        metrics: Metrics,
        poller: selectors.BaseSelector,
        *,
        defer: Callable[..., None],
        answer: Callable[[Connection], None],
        refuse: Refuse,
    ) -> None:
        self._config, self._settings, self._metrics, self._poller = config, settings, metrics, poller
        self._defer, self._answer, self._write_refusal = defer, answer, refuse
        self._lane = Lane(lambda connection: self._safely(self._check_in_turn, connection))
        self._unsent = Budget(settings.send_mib * MIB)
        lengths = {
            Phase.IDLE: config.keepalive,
            Phase.HEAD: settings.head_timeout,
            Phase.BODY: settings.body_timeout,
            Phase.WAITING: LONGEST_WAIT,
            Phase.SENDING: settings.write_timeout,
            Phase.CLOSING: settings.head_timeout,
        }
        self._connections = Connections(lengths)
        self._room = Room(settings.receive_mib * MIB, self._connections, self._refuse_crowded, self._pause)
        self._stopping = False
        self.count = 0

    def begin(self, sock: socket.socket, client: Any, server: Any) -> None:
        """Take a new connection; if there are too many, close another."""
        outbox = Outbox(sock, self._unsent, lambda: self._defer(self._safely, self._await_room, connection))
        outbox.settled = lambda: self._settled(connection)
        incoming = Incoming(self._config, client, self._settings.max_body_bytes)
        connection = Connection(outbox, client, server, incoming, self._room.budget)
        self._connections.enter(connection, Phase.HEAD)
        self._listen(connection, selectors.EVENT_READ)
        self.count += 1
        if self.count > self._settings.max_connections:
            self.spare_one("connections", connection)

    def spare_one(self, reason: str, newest: Connection | None = None) -> None:
        """Close the most dispensable connection."""
        connection = self._connections.oldest_sparable(newest)
        if connection is not None:
            self._cut(connection, reason)

    def stop(self) -> None:
        """From now on, give silent connections only LINGER seconds."""
        self._stopping = True
        self._connections.cap(LINGER, Phase.IDLE, Phase.CLOSING)
        for connection in self._connections.of(Phase.HEAD):
            if not connection.held:
                self._connections.enter(connection, Phase.IDLE, within=LINGER)

    def expire(self) -> None:
        """End what is past its deadline."""
        for connection in self._connections.due():
            self._safely(self._expire, connection)

    def _expire(self, connection: Connection) -> None:
        if connection.phase is Phase.BODY or (connection.phase is Phase.HEAD and connection.held):
            self._metrics.cut.labels(f"{connection.phase.name.lower()}_timeout").inc()
            self._refuse(connection, RequestTimeout("the request took too long to come"))
        elif connection.phase is Phase.WAITING:
            self._refuse_crowded(connection, "lane")
        elif connection.phase is Phase.SENDING:
            self._cut(connection, "write_timeout")
        else:
            self._drop(connection)

    def answered(self, connection: Connection, *, keep: bool) -> None:
        """Continue with a connection whose request was answered; keep: whether it may send another."""
        connection.request, connection.keep = None, keep
        connection.hold(connection.incoming.size)
        self._lane.leave(connection)
        self._room.resume()
        self._connections.enter(connection, Phase.SENDING)
        self._safely(self._write, connection)

    def _listen(self, connection: Connection, events: int) -> None:
        """Have the event loop watch a connection for `events`; 0: for none."""
        if connection.registered == events:
            return
        if connection.registered:
            self._poller.unregister(connection)
        connection.registered = events
        if events:
            self._poller.register(connection, events, self._on_event)

    def _pause(self, connection: Connection, paused: bool) -> None:
        """Stop or resume reading from a connection; the kernel buffers what it sends."""
        self._safely(lambda each: self._listen(each, 0 if paused else selectors.EVENT_READ), connection)

    def _on_event(self, connection: Connection) -> None:
        """Read or write, unless the connection was refused or closed since the event was reported."""
        if connection.registered == selectors.EVENT_READ:
            self._safely(self._read, connection)
        elif connection.registered == selectors.EVENT_WRITE:
            self._safely(self._write, connection)

    def _safely(self, act: Callable[[Connection], None], connection: Connection) -> None:
        """Do something with a connection; an error closes it, and doesn't end the event loop for all others."""
        try:
            act(connection)
        except OSError as error:
            log.debug("a client disconnected: %s", error)
            self._drop(connection)
        except Exception:
            log.exception("a connection failed")
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        """Close a connection; a second call does nothing."""
        if connection.phase is None:
            return
        self._listen(connection, 0)
        self._connections.leave(connection)
        self._lane.leave(connection)
        connection.hold(0)
        connection.sock.release()
        self.count -= 1

    def _cut(self, connection: Connection, reason: str) -> None:
        """Close a connection before its client is done, and count that."""
        self._metrics.cut.labels(reason).inc()
        self._drop(connection)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
        elif connection.phase is Phase.CLOSING:
            connection.skipped += len(data)
            if connection.skipped > SKIP * self._settings.max_body_bytes:
                self._drop(connection)
        else:
            self._receive(connection, data)

    def _receive(self, connection: Connection, data: bytes) -> None:
        """Take bytes of a request; once it is complete, a thread answers it."""
        if connection.phase is Phase.IDLE:
            self._connections.enter(connection, Phase.HEAD)
        incoming = connection.incoming
        try:
            connection.request = incoming.feed(data)
        except (ParseException, ServiceError) as error:
            self._refuse(connection, error)
            return
        if connection.request is not None:
            self._take(connection)
            return
        connection.hold(incoming.size)
        if incoming.head is not None and connection.phase is Phase.HEAD:
            self._connections.enter(connection, Phase.BODY)
            if incoming.wants_continue():
                connection.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._room.make(connection)

    def _take(self, connection: Connection) -> None:
        """Have a complete request answered: at once, or in turn if it is expensive to check."""
        self._listen(connection, 0)
        self._connections.enter(connection, Phase.RUNNING)
        if connection.incoming.size > AHEAD:
            connection.incoming.forget()
            connection.request.force_close()
        connection.hold(connection.request.body.size + connection.incoming.size)
        if not self._room.admits(connection):
            self._refuse_crowded(connection, "memory")
        elif not costs_much(connection):
            self._answer(connection)
        elif not self._lane.has_room(connection):
            self._refuse_crowded(connection, "lane")
        else:
            self._connections.enter(connection, Phase.WAITING)
            self._lane.enter(connection)

    def _check_in_turn(self, connection: Connection) -> None:
        """Start checking a request that has waited in the lane."""
        if ClientConnection(connection.sock).gone():
            self._metrics.cancelled.inc()
            self._drop(connection)
            return
        self._connections.enter(connection, Phase.RUNNING)
        self._answer(connection)

    def _refuse_crowded(self, connection: Connection, reason: str) -> None:
        """Refuse a request for which there is no room in memory or in the lane."""
        self._metrics.cut.labels(reason).inc()
        self._refuse(connection, Saturated(CROWDED, retry_after=1))

    def _settled(self, connection: Connection) -> None:
        """Release a request's bytes; called from its thread once they are read and checked."""
        connection.hold(connection.incoming.size)
        if self._lane.checks(connection):
            self._defer(self._lane.leave, connection)
        if self._room.awaited:
            self._defer(self._room.resume)

    def _await_room(self, connection: Connection) -> None:
        """Send what is buffered once the client accepts it; if all buffers together are too large, cut the slowest."""
        if connection.sock.pending:
            self._listen(connection, selectors.EVENT_WRITE)
        if self._unsent.exceeded:
            senders = sorted(self._connections.of(Phase.RUNNING, Phase.SENDING), key=lambda each: each.sock.pending)
            while self._unsent.exceeded and senders:
                self._metrics.cut.labels("memory").inc()
                senders.pop().sock.cut()

    def _write(self, connection: Connection) -> None:
        try:
            done = connection.sock.flush()
        except OSError:
            connection.sock.cut()
            done, connection.keep = True, False
        if not done:
            self._listen(connection, selectors.EVENT_WRITE)
        elif connection.phase is Phase.RUNNING:
            self._listen(connection, 0)
        elif connection.keep:
            self._connections.enter(connection, Phase.IDLE, within=LINGER if self._stopping else None)
            self._listen(connection, selectors.EVENT_READ)
            if connection.incoming.size:
                self._receive(connection, b"")
        else:
            self._close_gently(connection)

    def _close_gently(self, connection: Connection) -> None:
        """Close our side, and drop what the client still sends: a full close could reset it and lose the answer."""
        connection.incoming.forget()
        connection.hold(0)
        connection.sock.finish()
        self._connections.enter(connection, Phase.CLOSING, within=LINGER if self._stopping else None)
        self._listen(connection, selectors.EVENT_READ)

    def _refuse(self, connection: Connection, error: Exception) -> None:
        """Answer a request with an error, without a thread."""
        head = connection.incoming.head or connection.request
        connection.incoming.forget()
        connection.request = None
        connection.hold(0)
        self._lane.leave(connection)
        connection.keep = False
        self._connections.enter(connection, Phase.SENDING)
        self._write_refusal(head, connection.sock, error)
        self._write(connection)
