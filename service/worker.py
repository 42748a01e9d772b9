"""gunicorn's threaded worker, with all reading and writing in its event loop: a slow client never holds a thread.

A connection gets a thread once its request is whole (service/intake.py). What its client doesn't take of the answer at
once waits in memory (service/outbox.py). Every phase of a connection ends after a time (service/connections.py). When
the worker stops, it drains first.
"""

import errno
import json
import os
import selectors
import socket
import threading
import time
import uuid
from http import HTTPStatus
from types import FrameType
from typing import Any, cast

from flask import Flask
from gunicorn.glogging import Logger as GunicornLogger
from gunicorn.http.errors import (
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.workers.gthread import ThreadWorker

from service.connections import Connection, Connections, Phase
from service.errors import Saturated, ServiceError
from service.gateway import Gateway
from service.intake import Incoming
from service.outbox import Budget, Outbox

STATUSES: dict[type[Exception], HTTPStatus] = {
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
    ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    ParseException: HTTPStatus.BAD_REQUEST,
}
HEARTBEAT = 1.0  # seconds between two signs of life to the arbiter; gunicorn itself gives one for every event
LINGER = 2.0  # seconds a silent connection keeps a stopping worker, as for kept-alive ones in gunicorn
READ = 262_144  # bytes taken from one connection before the next one's turn
ACCEPTS = 64  # connections accepted before others' turn
SKIP = 4  # times MAX_BODY_BYTES that are read over after a refusal, so that the client comes to read it
MIB = 1 << 20


class Logger(GunicornLogger):
    """gunicorn's log without the access log, which costs time also where nobody reads it: see service/record.py."""

    def access(self, *_args: object) -> None:
        """Write nothing."""


class Worker(ThreadWorker):
    """One process, many threads: see service/gunicorn.conf.py."""

    notified = 0.0  # by time.monotonic()

    def notify(self) -> None:
        """Tell the arbiter that the main thread is alive, unless that was said just now."""
        if (now := time.monotonic()) >= self.notified + HEARTBEAT:
            self.notified = now
            super().notify()

    def load_wsgi(self) -> None:
        """Load the app, and make what the connections need."""
        super().load_wsgi()
        self.gateway: Gateway = cast(Flask, self.wsgi).extensions["sluice"]
        settings = self.gateway.settings
        self.receiving, self.unsent = Budget(settings.receive_mib * MIB), Budget(settings.send_mib * MIB)
        self.waiting: list[Connection] = []  # for room in the first of these budgets
        lengths = {
            Phase.IDLE: self.cfg.keepalive,
            Phase.HEAD: settings.head_timeout,
            Phase.BODY: settings.body_timeout,
            Phase.SENDING: settings.write_timeout,
            Phase.CLOSING: settings.head_timeout,
        }
        self.connections = Connections(lengths)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGTERM: not ready at once, accept for PRESTOP seconds more, then finish what is running."""
        if self.gateway.draining.is_set():
            return
        self.gateway.draining.set()
        timer = threading.Timer(self.gateway.settings.prestop, super().handle_exit, (sig, frame))
        timer.daemon = True
        timer.start()

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGQUIT or SIGINT: end at once, which closes every connection and so stops the model.

        gunicorn's own stops the thread pool here, and never returns if the signal came while the main thread held
        the pool's lock; its `sys.exit` then waits for running requests.
        """
        os._exit(0)

    def set_accept_enabled(self, enabled: bool | None) -> None:
        """When stopping, take what has already connected, then close: nobody waits in a backlog that is never read."""
        super().set_accept_enabled(enabled)
        if self.alive:
            return
        for listener in self.sockets:
            accepted = -1
            while accepted != self.nr_conns and listener.fileno() >= 0:
                accepted = self.nr_conns
                self.accept(listener)
            listener.close()
        self.connections.cap(LINGER, Phase.IDLE, Phase.CLOSING)
        for connection in self.connections.of(Phase.HEAD):
            if not connection.held:  # one that never sent anything doesn't hold the stop up
                self.connections.enter(connection, Phase.IDLE, within=LINGER)

    # Everything below runs in the event loop, except handle() and what it calls.

    def accept(self, listener: socket.socket) -> None:
        """Accept the connections that wait, and let old ones go where there are too many."""
        for _ in range(ACCEPTS):
            try:
                sock, client = listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._spare_one("descriptors")
                return
            self.nr_conns += 1
            self._begin(sock, client, listener.getsockname())
            if self.nr_conns > self.gateway.settings.max_connections:
                self._spare_one("connections")

    def _begin(self, sock: socket.socket, client: Any, server: Any) -> None:
        incoming = Incoming(self.cfg, client, self.gateway.settings.max_body_bytes)
        outbox = Outbox(sock, self.unsent, lambda: self.method_queue.defer(self._await_room, connection))
        outbox.settled = lambda: self._settle(connection)
        connection = Connection(outbox, client, server, incoming, self.receiving)
        self.connections.enter(connection, Phase.HEAD)
        self._listen(connection, selectors.EVENT_READ)

    def _spare_one(self, reason: str) -> None:
        connection = self.connections.oldest_sparable()
        if connection is not None:
            self._cut(connection, reason)

    def _listen(self, connection: Connection, events: int) -> None:
        """Have the event loop watch a connection for `events`, 0 for none."""
        if connection.registered == events:
            return
        if connection.registered:
            self.poller.unregister(connection)
        connection.registered = events
        if events:
            self.poller.register(connection, events, self._on_event)

    def _drop(self, connection: Connection) -> None:
        """Close a connection for good."""
        self._listen(connection, 0)
        self.connections.leave(connection)
        connection.hold(0)
        connection.sock.close()
        self.nr_conns -= 1

    def _cut(self, connection: Connection, reason: str) -> None:
        """Close a connection that its client would have liked to keep."""
        self.gateway.metrics.cut.labels(reason).inc()
        self._drop(connection)

    def _on_event(self, connection: Connection) -> None:
        """Read or write; what was reported before it was refused or let go may be neither any more."""
        try:
            if connection.registered == selectors.EVENT_READ:
                self._on_readable(connection)
            elif connection.registered == selectors.EVENT_WRITE:
                self._on_writable(connection)
        except Exception:  # noqa: BLE001 - one connection's fault must not end all others
            self.log.exception("a connection failed")
            self._drop(connection)

    def _on_readable(self, connection: Connection) -> None:
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
            if connection.skipped > SKIP * self.gateway.settings.max_body_bytes:
                self._drop(connection)
        else:
            self._receive(connection, data)

    def _receive(self, connection: Connection, data: bytes) -> None:
        """Take bytes of a request; once it is whole, a thread answers it."""
        if connection.phase is Phase.IDLE:
            self.connections.enter(connection, Phase.HEAD)
        incoming = connection.incoming
        try:
            connection.request = incoming.feed(data)
        except (ParseException, ServiceError) as error:
            self._refuse(connection, error)
            return
        if connection.request is not None:
            self._answer(connection)
            return
        connection.hold(incoming.size)
        if incoming.in_body and connection.phase is Phase.HEAD:
            self.connections.enter(connection, Phase.BODY)
            if incoming.wants_continue():
                connection.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.receiving.exceeded:
            self._make_room(connection)

    def _make_room(self, connection: Connection) -> None:
        """With too many bytes in memory, refuse the greediest upload, or have this one wait for those that run."""
        while self.receiving.exceeded and self.connections.unfinished() > self.receiving.limit // 2:
            greediest = self.connections.greediest()
            if greediest is None:
                break
            self.gateway.metrics.cut.labels("memory").inc()
            self._refuse(greediest, Saturated("too many large requests come in at once", retry_after=1))
        if self.receiving.exceeded and connection.phase is Phase.BODY:
            self._listen(connection, 0)
            self.waiting.append(connection)

    def _resume(self) -> None:
        """Go on with the uploads that waited for room."""
        waiting, self.waiting = self.waiting, []
        for connection in waiting:
            if connection.phase is Phase.BODY:
                self._listen(connection, selectors.EVENT_READ)

    def _answer(self, connection: Connection) -> None:
        self._listen(connection, 0)
        self.connections.enter(connection, Phase.RUNNING)
        connection.hold(len(connection.request.body.getbuffer()) + connection.incoming.size)
        self.tpool.submit(self.handle, connection).add_done_callback(
            lambda done: self.method_queue.defer(self.finish_request, connection, done)
        )

    def handle(self, conn: Any) -> bool:
        """Answer a request, in a thread, and say whether the connection can have another one."""
        try:
            return bool(self.handle_request(conn.request, conn))
        except StopIteration:
            return False
        except OSError as error:
            self.log.debug("the client left: %s", error)
            return False
        except Exception as error:  # noqa: BLE001 - answered as a 500, and logged
            self.handle_error(conn.request, conn.sock, conn.client, error)
            return False

    def _settle(self, connection: Connection) -> None:
        """Count a request's bytes no more: called from its thread, once it has read and checked them."""
        connection.hold(connection.incoming.size)
        if self.waiting:
            self.method_queue.defer(self._resume)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Go on with a connection whose request a thread has answered."""
        conn.keep = not fs.cancelled() and fs.exception() is None and fs.result()
        conn.request = None
        conn.hold(0)
        if self.waiting:
            self._resume()
        self.connections.enter(conn, Phase.SENDING)
        self._on_writable(conn)

    def _await_room(self, connection: Connection) -> None:
        """Send what a thread couldn't, as the client takes it; where all clients leave too much, one has to go."""
        if connection.sock.pending:
            self._listen(connection, selectors.EVENT_WRITE)
        senders = sorted(self.connections.of(Phase.RUNNING, Phase.SENDING), key=lambda each: each.sock.pending)
        while self.unsent.exceeded and senders:
            self.gateway.metrics.cut.labels("memory").inc()
            senders.pop().sock.cut()

    def _on_writable(self, connection: Connection) -> None:
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
            self.connections.enter(connection, Phase.IDLE, within=None if self.alive else LINGER)
            self._listen(connection, selectors.EVENT_READ)
            if connection.incoming.size:
                self._receive(connection, b"")
        else:
            self._close_gently(connection)

    def _close_gently(self, connection: Connection) -> None:
        """End our side, and read over what the client still sends: a close now would reset it, and lose the answer."""
        connection.sock.finish()
        self.connections.enter(connection, Phase.CLOSING, within=None if self.alive else LINGER)
        self._listen(connection, selectors.EVENT_READ)

    def murder_pending(self) -> None:
        """End what has taken too long; the event loop calls this at least once a second."""
        for connection in self.connections.due():
            if connection.phase is Phase.BODY or (connection.phase is Phase.HEAD and connection.held):
                self.gateway.metrics.cut.labels(f"{connection.phase.name.lower()}_timeout").inc()
                self._refuse(connection, TooSlow("the request took too long to come"))
            elif connection.phase is Phase.SENDING:
                self._cut(connection, "write_timeout")
            else:
                self._drop(connection)

    def _refuse(self, connection: Connection, error: Exception) -> None:
        """Answer a request that no thread will see."""
        connection.incoming.forget()
        connection.hold(0)
        connection.keep = False
        self.connections.enter(connection, Phase.SENDING)
        self.handle_error(None, connection.sock, connection.client, error)
        self._on_writable(connection)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what never reached the app, or what it failed on, in the form of every other error."""
        if not isinstance(exc, ServiceError):
            exc = self._service_error(exc)
        body = json.dumps(exc.body())
        headers = {"Content-Type": "application/json", "X-Request-Id": uuid.uuid4().hex, **exc.headers}
        head = f"HTTP/1.1 {exc.status} {HTTPStatus(exc.status).phrase}\r\nConnection: close\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.gateway.metrics.responses.labels("none", exc.status).inc()
        try:
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        except OSError:
            self.log.debug("the client left before its error")

    def _service_error(self, exc: BaseException) -> ServiceError:
        status = next((STATUSES[kind] for kind in STATUSES if isinstance(exc, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
        if status is HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log.exception("a request failed", exc_info=exc)
        error = ServiceError(status.description or status.phrase)
        error.status, error.code = status, status.phrase.lower().replace(" ", "_")
        return error


class TooSlow(ServiceError):
    """The request didn't come within HEAD_TIMEOUT or BODY_TIMEOUT."""

    status, code = 408, "request_timeout"
