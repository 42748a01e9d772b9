"""HAProxy's configuration, rendered from a Stage: see haproxy.cfg."""

import json
from http import HTTPStatus
from pathlib import Path
from string import Template

from cdk8s_manifests.names import (
    GATEWAY_PORT,
    GATEWAY_PRIVATE_PORT,
    PODS,
    PROXIES,
    PROXY_PORT,
    QUEUE_PORT,
    STATUS_PORT,
    host,
)
from config import BUFFER_BYTES, EXIT_MARGIN, Stage
from service.admission import BATCH_SHARE, SMOKE_PLACES
from service.errors import EngineFailed, EngineUnavailable, GenerationTimeout, Saturated, ServiceError, of_http
from service.front import MODEL_PATH, PREFIX
from service.gateway import KEY_NAME

TEMPLATE = Path(__file__).with_name("haproxy.cfg")
LUA = Path(__file__).with_name("await_pod.lua")
FOLDER = "/usr/local/etc/haproxy"  # of both, in the container
GENERATION_PATHS = (f"{PREFIX}/chat", f"{PREFIX}/embed")
SPARE_CONNECTIONS = 64  # of a front, idle or just reopened; and for probes and metrics
SMALL_TIMEOUT = 10  # seconds to receive a request, which a front or a proxy sends all at once


def haproxy_cfg(stage: Stage) -> str:
    """Return the text of haproxy.cfg."""
    clients = stage.max_in_flight + SPARE_CONNECTIONS
    values: dict[str, object] = {
        **_names(stage),
        "max_clients": clients,
        "max_queue": clients * stage.proxy_replicas,
        "max_status": SPARE_CONNECTIONS,
        "max_connections": clients * (1 + stage.proxy_replicas) + SPARE_CONNECTIONS,
        "buffer_bytes": BUFFER_BYTES,
        # During a rollout, pods that still drain keep their places next to the new ones.
        "pods": 2 * stage.max_replicas,
        "proxies": 2 * stage.proxy_replicas,
        "slots": stage.slots,
        "batch_share": BATCH_SHARE,
        "smoke_places": min(SMOKE_PLACES, stage.slots),
        "key_name": KEY_NAME,
        "generation_paths": " ".join(GENERATION_PATHS),
        "model_path": MODEL_PATH,
        "request_id": "^[A-Za-z0-9._-]{1,128}$",
        "min_replicas": stage.min_replicas,
        "lua": f"{FOLDER}/{LUA.name}",
        **_seconds(stage),
        **_errors(),
    }
    return Template(TEMPLATE.read_text()).substitute(values)


def _names(stage: Stage) -> dict[str, object]:
    return {
        "port": PROXY_PORT,
        "queue_port": QUEUE_PORT,
        "status_port": STATUS_PORT,
        "gateway_port": GATEWAY_PORT,
        "gateway_private_port": GATEWAY_PRIVATE_PORT,
        "pods_host": host(PODS, stage.namespace),
        "proxies_host": host(PROXIES, stage.namespace),
    }


def _seconds(stage: Stage) -> dict[str, object]:
    return {
        "prestop": stage.prestop,
        "drain": stage.prestop + stage.longest_answer + EXIT_MARGIN // 2,
        "small": SMALL_TIMEOUT,
        "idle": stage.idle_timeout,
        "keep_alive": stage.client_timeout,
        "queue": stage.queue_timeout,
        "queue_ms": stage.queue_timeout * 1000,
        "proxy": stage.proxy_timeout,
        "holder": stage.longest_answer,
    }


def _errors() -> dict[str, object]:
    """Return the bodies of errors by their names in the template, which puts them in single quotes."""
    later = "see Retry-After"
    errors = {
        "bad_request": _plain(HTTPStatus.BAD_REQUEST, "the request is malformed"),
        "not_found": _plain(HTTPStatus.NOT_FOUND, "there is nothing here"),
        "request_timeout": _plain(HTTPStatus.REQUEST_TIMEOUT, "the request took too long to come"),
        "internal_error": ServiceError("an error of the server’s own"),
        "engine_failed": EngineFailed("the pod broke off", hint="the request can be sent again"),
        "engine_unavailable": EngineUnavailable("no pod is ready", hint=later),
        "generation_timeout": GenerationTimeout("no pod answered in time"),
        "queue_timeout": Saturated("no slot became free in time", hint=later),
        "queue_full": Saturated("this class has all of its places", hint=later),
        "wait_too_long": Saturated("every slot is busy and the wait would be too long", hint=later),
    }
    return {name: json.dumps(error.body(), ensure_ascii=False) for name, error in errors.items()}


def _plain(status: HTTPStatus, message: str) -> ServiceError:
    return of_http(status, status.phrase, message)
