"""The private port: probes, metrics and, for fronts, the model.

It has a server of its own, so that probes succeed however busy the public port is.
"""

import json
import logging
import socket
import threading
from contextlib import suppress
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from flask import Flask, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.addresses import is_loopback
from service.browsers import check_host
from service.error_handlers import answer_errors_in_json
from service.errors import ServiceError, of_http
from service.front import MODEL_PATH
from service.http_request import named_model
from service.models import Models
from service.settings import Role

log = logging.getLogger("sluice")

MAX_OPEN = 64  # concurrent connections; probes and scrapes take milliseconds
MAX_HEAD = 8_192  # bytes of a request that are read; http.server would keep 6 MiB of headers for each connection
TOO_LONG = b"x" * 65_537  # http.server refuses it
NOT_LOADED = "the model is not loaded"
UNREADABLE = of_http(HTTPStatus.BAD_REQUEST, "Bad Request", "the request is malformed")


class NotReady(ServiceError):
    """The model isn't loaded, or this process is shutting down."""

    status, code = 503, "not_ready"


def create_private_app(models: Models) -> Flask:
    """Return the WSGI app with /healthz, /readyz, /model and /metrics."""
    app = Flask("private")
    answer_errors_in_json(app)
    if is_loopback(models.settings.private_host):  # elsewhere, the hosts of probes can't be listed
        check_host(app, models.settings.private_host, models.settings)

    @app.get("/healthz")
    def healthz() -> Response:
        return jsonify({"status": "ok"})

    @app.get("/readyz")
    def readyz() -> Response:
        if models.draining.is_set():
            raise NotReady("draining")
        if missing := [gateway.settings.model for gateway in models.gateways if not gateway.watch.loaded]:
            waiting = "no pod has this release's model yet" if models.settings.role is Role.FRONT else NOT_LOADED
            raise NotReady(waiting if len(models.gateways) == 1 else f"{waiting}: {', '.join(missing)}")
        return jsonify({"status": "ready"})

    @app.get(MODEL_PATH)
    def model() -> Response:
        gateway = models.find(named_model())
        watch = gateway.watch
        told = {"model": gateway.settings.model, "capabilities": sorted(watch.capabilities), "running": watch.running}
        return jsonify({**told, **(watch.facts.told() if watch.facts else {})})

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(models.metrics.registry), content_type=CONTENT_TYPE_LATEST)

    return app


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], *args: Any) -> None:
        self._open: dict[Any, None] = {}  # connections, oldest first; each has a thread
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, *args)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection in a thread; if there are too many, close the oldest."""
        self._open[request] = None
        if len(self._open) > MAX_OPEN:
            oldest = list(self._open)[0]  # noqa: RUF015 - a copy, because other threads change it
            self._open.pop(oldest, None)
            with suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection that was answered or shut down."""
        self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log clients that disconnect or time out at debug level; the app handles its own errors."""
        log.debug("a connection to the private port ended", exc_info=True)


class _Head:
    """A connection's file: what is longer than MAX_HEAD bytes has a line that is too long for http.server."""

    def __init__(self, file: Any) -> None:
        self._file, self._left = file, MAX_HEAD

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def readline(self, size: int) -> bytes:
        """Return the next line, or TOO_LONG."""
        line: bytes = self._file.readline(min(size, self._left + 1))
        self._left -= len(line)
        return TOO_LONG if self._left < 0 else line


class _Handler(WSGIRequestHandler):
    timeout = 10  # seconds that a connection may be silent
    error_content_type = "application/json"
    error_message_format = json.dumps(UNREADABLE.body())  # contains no %-codes for http.server to fill in

    def setup(self) -> None:
        """Bound what is read."""
        super().setup()
        self.rfile: Any = _Head(self.rfile)

    def log_message(self, *args: object) -> None:
        """Log nothing: probes come every few seconds."""


def serve_private(app: Flask, host: str, port: int) -> WSGIServer:
    """Serve the private port in a thread until the process ends; raises OSError if the port is in use."""
    server = make_server(host, port, app, _Server, _Handler)
    threading.Thread(target=server.serve_forever, name="private-port", daemon=True).start()
    return server
