"""What the routes share: who calls, and how an answer is written as a stream."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import Response, current_app, g, request
from werkzeug.exceptions import RequestEntityTooLarge

from service.admission import Priority
from service.client import Client
from service.errors import OWN_FAULT, ClientGone, InvalidRequest, ModelNotServed, ServiceError, Unauthorized
from service.gateway import Answer, Caller, Gateway
from service.intake import Whole, too_large
from service.keys import Key, Keys
from service.ollama import THINKS, with_tag
from service.record import Record

log = logging.getLogger("sluice")

NDJSON, SSE = "application/x-ndjson", "text/event-stream"


def caller(keys: Keys | None) -> Caller:
    """Return who sends the current request; raises Unauthorized, Forbidden, or InvalidRequest for no such priority."""
    record: Record = g.record
    key = authenticate(keys)
    asked = asked_priority()
    priority = key.priority(asked) if key else asked or Priority.INTERACTIVE
    record.priority, record.key = priority, key.name if key else None
    return Caller(Client(request.environ.get("gunicorn.socket")), record, priority, key)


def asked_priority() -> Priority | None:
    """Return the class that the current request asks for, if any; raises InvalidRequest."""
    text = request.headers.get("X-Priority")
    if text is None:
        return None
    if text.lower() not in list(Priority):
        raise InvalidRequest(f"X-Priority: must be {' or '.join(Priority)}")
    return Priority(text.lower())


def authenticate(keys: Keys | None) -> Key | None:
    """Return the key of the current request, or None where no keys are needed; raises Unauthorized."""
    if keys is None:
        return None
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("this server needs an API key", hint="send it as `Authorization: Bearer KEY`")
    return keys.authenticate(token.strip())


def read_body() -> bytes:
    """Return the body of the current request, which service/worker.py has received in full; raises BodyTooLarge."""
    body = request.environ["wsgi.input"]
    if isinstance(body, Whole):
        return body.take()
    try:
        return request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise too_large(current_app.config["MAX_CONTENT_LENGTH"]) from None


def check_model(name: str | None, gateway: Gateway) -> None:
    """Refuse a model other than the one that is served; raises ModelNotServed."""
    served = gateway.settings.model
    if name is not None and full_name(name) != full_name(served):
        raise ModelNotServed(f"model: this server serves {served} only")


def check_thinks(field: str, gateway: Gateway) -> None:
    """Refuse the wish that the model thinks first where it can't; raises InvalidRequest."""
    known = gateway.watch.capabilities
    if known and THINKS not in known:
        raise InvalidRequest(f"{field}: {gateway.settings.model} answers without thinking first", hint="leave it out")


def full_name(model: str) -> str:
    """Return a model's name as Ollama compares it: with its tag, without its own registry's name, in lower case."""
    name = with_tag(model).lower()
    return name.removeprefix("registry.ollama.ai/").removeprefix("library/")


def ndjson(item: dict[str, Any]) -> str:
    """Write one object of a stream as a line."""
    return json.dumps(item) + "\n"


def sse(item: dict[str, Any]) -> str:
    """Write one object of a stream as a server-sent event."""
    return f"data: {json.dumps(item)}\n\n"


def stream(
    answer: Answer, items: Iterable[dict[str, Any]], write: Callable[[dict[str, Any]], str], end: str = ""
) -> Response:
    """Return a response that writes `items` as they come, and an error object where they break off.

    end: what follows the last item of a complete answer. The answer is closed with the response, also when the
    response was never started.
    """

    def body() -> Iterator[str]:
        try:
            for item in items:
                yield write(item)
            if end:
                yield end
        except ServiceError as error:
            answer.close(error)
            yield write(error.body())
        except ClientGone as gone:
            answer.close(gone)
        except Exception as error:
            log.exception("a stream failed")
            answer.close(error)
            yield write(ServiceError(OWN_FAULT).body())

    response = Response(body(), content_type=SSE if write is sse else NDJSON)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(answer.close)
    return response
