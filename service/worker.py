"""gunicorn's threaded worker: requests reach its threads once they are complete, and it drains before it stops."""

import errno
import json
import os
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
)
from gunicorn.workers.gthread import ThreadWorker

from service.connections import Connection
from service.dialects.errors import form_of
from service.errors import ServiceError, of_http
from service.models import Models
from service.request_log import RequestLog
from service.traffic import Traffic

STATUSES: dict[type[Exception], HTTPStatus] = {
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    ParseException: HTTPStatus.BAD_REQUEST,
}
HEARTBEAT = 1.0  # seconds between two heartbeats to the arbiter; gunicorn itself sends one for every event
ACCEPTS = 64  # connections accepted before other events are handled
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Logger(GunicornLogger):
    """gunicorn's log without the access log, which costs time and is replaced by service/request_log.py."""

    def access(self, *_args: object) -> None:
        """Log nothing."""


class Worker(ThreadWorker):
    """One process, many threads: see service/gunicorn.conf.py. Its connections are in service/traffic.py."""

    notified = 0.0  # by time.monotonic()

    def notify(self) -> None:
        """Send the arbiter a heartbeat, at most one per HEARTBEAT seconds."""
        if (now := time.monotonic()) >= self.notified + HEARTBEAT:
            self.notified = now
            super().notify()

    def load_wsgi(self) -> None:
        """Load the app, and create the Traffic of its connections."""
        super().load_wsgi()
        self.models: Models = cast(Flask, self.wsgi).extensions["sluice"]
        self.traffic = Traffic(
            self.cfg,
            self.models.settings,
            self.models.metrics,
            self.poller,
            defer=self.method_queue.defer,
            answer=self._answer,
            refuse=lambda head, outbox, error: self.handle_error(head, outbox, None, error),
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGTERM: stop being ready, accept for another PRESTOP seconds, then finish what is running."""
        if self.models.draining.is_set():
            return
        self.models.draining.set()
        timer = threading.Timer(self.models.settings.prestop, super().handle_exit, (sig, frame))
        timer.daemon = True
        timer.start()

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGQUIT or SIGINT: end at once, which closes all connections and so stops the model.

        gunicorn's own method stops the thread pool, which deadlocks if the signal came while the main thread held the
        pool's lock; its `sys.exit` then waits for running requests.
        """
        os._exit(0)

    def set_accept_enabled(self, enabled: bool | None) -> None:
        """When stopping, accept the backlog first, so that no client waits in one that is never read."""
        super().set_accept_enabled(enabled)
        if self.alive:
            return
        for listener in self.sockets:
            accepted = -1
            while accepted != self.nr_conns and listener.fileno() >= 0:
                accepted = self.nr_conns
                self.accept(listener)
            listener.close()
        self.traffic.stop()

    def run(self) -> None:
        """Serve until told to stop. An error in the loop itself ends the process, and the arbiter starts another."""
        try:
            super().run()
        except Exception:
            self.log.exception("the event loop failed")
            os._exit(1)

    @property
    def nr_conns(self) -> int:
        """Return how many connections there are; gunicorn's stop waits for 0."""
        return self.traffic.count if hasattr(self, "traffic") else 0

    @nr_conns.setter
    def nr_conns(self, value: int) -> None:
        pass  # gunicorn's constructor sets it to 0

    def accept(self, listener: socket.socket) -> None:
        """Accept waiting connections."""
        for _ in range(ACCEPTS):
            try:
                sock, client = listener.accept()
            except OSError as error:
                if error.errno in NO_ROOM:
                    self.traffic.spare_one("descriptors")
                return
            self.traffic.begin(sock, client, listener.getsockname())

    def murder_pending(self) -> None:
        """End what is past its deadline; the event loop calls this at least once a second."""
        self.traffic.expire()

    def _answer(self, connection: Connection) -> None:
        self.tpool.submit(self.handle, connection).add_done_callback(
            lambda done: self.method_queue.defer(self.finish_request, connection, done)
        )

    def handle(self, conn: Any) -> bool:
        """Answer a request, in a thread, and say whether the connection may send another."""
        try:
            return bool(self.handle_request(conn.request, conn))
        except StopIteration:
            return False
        except OSError as error:
            self.log.debug("the client disconnected: %s", error)
            return False
        except Exception as error:  # noqa: BLE001 - answered with a 500, and logged
            self.handle_error(conn.request, conn.sock, conn.client, error)
            return False

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Continue with a connection whose request a thread has answered."""
        self.traffic.answered(conn, keep=not fs.cancelled() and fs.exception() is None and fs.result())

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer a request that never reached the app, or on which it failed, in the form of all errors."""
        error = exc if isinstance(exc, ServiceError) else self._as_service_error(exc)
        method, path = (req.method, req.path) if req else ("", "")
        form = form_of(path)
        status = form.status(error)
        record = RequestLog(uuid.uuid4().hex, method, path, status=status, error=error.code)
        self.models.metrics.responses.labels("none", status).inc()
        body = json.dumps(form.told(error, record.request_id))
        headers = {"Content-Type": "application/json", **form.id_headers(record.request_id), **error.headers}
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nConnection: close\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        try:
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        except OSError:
            self.log.debug("the client disconnected before its error")
        record.write()

    def _as_service_error(self, exc: BaseException) -> ServiceError:
        status = next((STATUSES[kind] for kind in STATUSES if isinstance(exc, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
        if status is HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log.error("a request failed", exc_info=exc)
        return of_http(status, status.phrase, status.description or status.phrase)
