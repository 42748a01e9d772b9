"""The private port: probes, metrics, and for fronts the model.

It is served beside the gateway, so that load on one never hides the other.
"""

import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from flask import Flask, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.addresses import is_loopback
from service.browsers import check_host
from service.errors import ServiceError
from service.front import MODEL_PATH
from service.gateway import Gateway
from service.handlers import answer_errors_in_json
from service.settings import Role

NOT_LOADED = "the model is not loaded"


class NotReady(ServiceError):
    """The model isn't loaded, or this process is about to stop."""

    status, code = 503, "not_ready"


def create_private_app(gateway: Gateway) -> Flask:
    """Return the WSGI app with /healthz, /readyz, /model and /metrics."""
    app = Flask("private")
    answer_errors_in_json(app)
    if is_loopback(gateway.settings.private_host):  # elsewhere probes come with addresses that nobody can list
        check_host(app, gateway.settings.private_host, gateway.settings)

    @app.get("/healthz")
    def healthz() -> Response:
        return jsonify({"status": "ok"})

    @app.get("/readyz")
    def readyz() -> Response:
        if gateway.draining.is_set():
            raise NotReady("draining")
        if not gateway.watch.loaded:
            waiting = "no pod has this release's model yet" if gateway.settings.role is Role.FRONT else NOT_LOADED
            raise NotReady(waiting)
        return jsonify({"status": "ready"})

    @app.get(MODEL_PATH)
    def model() -> Response:
        return jsonify({"model": gateway.settings.model, "capabilities": sorted(gateway.watch.capabilities)})

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(gateway.metrics.registry), content_type=CONTENT_TYPE_LATEST)

    return app


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = 10  # seconds a probe's connection may stay silent

    def log_message(self, *args: object) -> None:
        """Write nothing: probes come every few seconds."""


def serve_private(app: Flask, host: str, port: int) -> WSGIServer:
    """Serve the private port from a thread of its own until the process ends; raises OSError if it is taken."""
    server = make_server(host, port, app, _Server, _Handler)
    threading.Thread(target=server.serve_forever, name="private-port", daemon=True).start()
    return server
