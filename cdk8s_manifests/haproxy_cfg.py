"""HAProxy's configuration, rendered from a Stage: see haproxy.cfg.

What that template has for each model, and for several:

- A section with ${suffix} in its name is rendered for each model; its comments stand in the first model's only.
- A line with ${other} is rendered for each model but the default one, so a stage with one model has none.
- A line with ${models} is rendered if there are several.
"""

import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from string import Template

from cdk8s_manifests.names import (
    GATEWAY_PORT,
    GATEWAY_PRIVATE_PORT,
    PROXIES,
    PROXY_PORT,
    QUEUE_PORT,
    STATUS_PORT,
    ObjectNames,
    host,
    object_names,
)
from config import BUFFER_BYTES, EXIT_MARGIN, Stage
from service.admission import BATCH_SHARE, SMOKE_PLACES
from service.errors import EngineFailed, EngineUnavailable, GenerationTimeout, Saturated, ServiceError, of_http
from service.front import MODEL_NAME, MODEL_PATH, PREFIX
from service.gateway import KEY_NAME

TEMPLATE = Path(__file__).with_name("haproxy.cfg")
LUA = Path(__file__).with_name("await_pod.lua")
FOLDER = "/usr/local/etc/haproxy"  # of both, in the container
GENERATION_PATHS = (f"{PREFIX}/chat", f"{PREFIX}/embed")
SPARE_CONNECTIONS = 64  # of a front, idle or just reopened; and for probes and metrics
SMALL_TIMEOUT = 10  # seconds to receive a request, which a front or a proxy sends all at once
SECTION = re.compile(r"^backend \w+\$\{suffix\}\n(?:[ .].*\n|\n)*", re.MULTILINE)  # of a model, to the next one
COMMENT = re.compile(r"^ *#.*\n", re.MULTILINE)


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
        "proxies": 2 * stage.proxy_replicas,
        "batch_share": BATCH_SHARE,
        "key_name": KEY_NAME,
        "model_header": MODEL_NAME,
        "generation_paths": " ".join(GENERATION_PATHS),
        "model_path": MODEL_PATH,
        "request_id": "^[A-Za-z0-9._-]{1,128}$",
        "fewest_replicas": min(view.min_replicas for view in stage.each_model),
        "lua": f"{FOLDER}/{LUA.name}",
        **_seconds(stage),
        **_errors(),
    }
    return Template(_for_each_model(stage, TEMPLATE.read_text())).substitute(values)


def _for_each_model(stage: Stage, text: str) -> str:
    """Return the template with the sections and lines of each model, in which only what they share isn't filled in."""
    names = {object_names(stage, view): view for view in stage.each_model}

    def sections(found: re.Match[str]) -> str:
        first, *others = (Template(found[0]).safe_substitute(_of_model(each, view)) for each, view in names.items())
        return first + "".join(COMMENT.sub("", other) for other in others)

    lines = SECTION.sub(sections, text).splitlines(keepends=True)
    return "".join(rendered for line in lines for rendered in _lines(line, list(names)))


def _lines(line: str, names: list[ObjectNames]) -> Iterator[str]:
    """Yield a line as often as there are models for it."""
    if "${other}" in line:
        for each in names[1:]:
            yield Template(line).safe_substitute(other=each.suffix, other_header=each.header)
    elif "${models}" not in line:
        yield line
    elif len(names) > 1:
        yield Template(line).safe_substitute(models=" ".join(each.header for each in names))


def _of_model(names: ObjectNames, view: Stage) -> dict[str, object]:
    return {
        "suffix": names.suffix,
        "pods_host": host(names.pods, view.namespace),
        # During a rollout, pods that still drain keep their places next to the new ones.
        "pods": 2 * view.max_replicas,
        "slots": view.slots,
        "smoke_places": min(SMOKE_PLACES, view.slots),
        "min_replicas": view.min_replicas,
    }


def _names(stage: Stage) -> dict[str, object]:
    return {
        "port": PROXY_PORT,
        "queue_port": QUEUE_PORT,
        "status_port": STATUS_PORT,
        "gateway_port": GATEWAY_PORT,
        "gateway_private_port": GATEWAY_PRIVATE_PORT,
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
        "unknown_model": EngineUnavailable("this release serves no such model", hint=later),
        "queue_timeout": Saturated("no slot became free in time", hint=later),
        "queue_full": Saturated("this class has all of its places", hint=later),
        "wait_too_long": Saturated("every slot is busy and the wait would be too long", hint=later),
    }
    return {name: json.dumps(error.body(), ensure_ascii=False) for name, error in errors.items()}


def _plain(status: HTTPStatus, message: str) -> ServiceError:
    return of_http(status, status.phrase, message)
