"""gunicorn's threaded worker, with a drain before it stops and errors in JSON also where no app was reached."""

import json
import os
import selectors
import socket
import struct
import threading
import time
import uuid
from functools import partial
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
from gunicorn.util import write_nonblock
from gunicorn.workers.gthread import TConn, ThreadWorker

from service.gateway import Gateway

STATUSES: dict[type[Exception], HTTPStatus] = {
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
    ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    ParseException: HTTPStatus.BAD_REQUEST,
}
HEARTBEAT = 1.0  # seconds between two signs of life to the arbiter; gunicorn itself gives one for every event
LINGER = 2.0  # seconds a silent connection keeps a stopping worker, as for kept-alive ones in gunicorn


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
        """Load the app, and bound how long a stalled client holds a thread: accepted sockets inherit it."""
        super().load_wsgi()
        self.gateway: Gateway = cast(Flask, self.wsgi).extensions["sluice"]
        limit = struct.pack("ll", *divmod(int(self.gateway.settings.stall_timeout * 1e6), 10**6))
        for listener in self.sockets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

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

    def enqueue_req(self, conn: TConn) -> None:
        """Give a connection a thread once it has sent something; gunicorn itself lets a silent one hold it for 5 s."""
        if conn.initialized or conn.data_ready or not self.alive:
            super().enqueue_req(conn)
            return
        conn.sock.setblocking(False)
        conn.set_timeout()
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def set_accept_enabled(self, enabled: bool | None) -> None:
        """When stopping, take what has already connected, then close: nobody waits in a backlog that is never read."""
        super().set_accept_enabled(enabled)
        if self.alive:
            return
        for conn in self.pending_conns:  # connections that never sent anything don't hold the stop up
            conn.timeout = min(conn.timeout or 0, time.monotonic() + LINGER)
        for listener in self.sockets:
            accepted = -1
            while accepted != self.nr_conns and listener.fileno() >= 0:
                accepted = self.nr_conns
                self.accept(listener)
            listener.close()

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer what never reached the app, or what it failed on, in the form of every other error."""
        status = next((STATUSES[kind] for kind in STATUSES if isinstance(exc, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
        if status is HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log.exception("a request failed")
        code = status.phrase.lower().replace(" ", "_")
        body = json.dumps({"error": {"code": code, "message": status.description or status.phrase, "hint": None}})
        head = f"HTTP/1.1 {status} {status.phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        head += f"X-Request-Id: {uuid.uuid4().hex}\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            write_nonblock(client, (head + body).encode())
        except OSError:
            self.log.debug("the client left before its error")
