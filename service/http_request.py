"""What the routes share: who calls, and how an answer is written as a stream."""

import json
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import Response, current_app, g, request
from werkzeug.exceptions import RequestEntityTooLarge

from service.admission import Priority
from service.client import ClientConnection
from service.errors import OWN_FAULT, ClientGone, InvalidRequest, ServiceError, Unauthorized
from service.gateway import Caller, Generation
from service.intake import Whole, too_large
from service.keys import Key, Keys
from service.request_log import RequestLog

log = logging.getLogger("sluice")

NDJSON, SSE = "application/x-ndjson", "text/event-stream"


def caller(keys: Keys | None) -> Caller:
    """Return who sends the current request; raises Unauthorized, Forbidden, or InvalidRequest for no such priority."""
    record: RequestLog = g.record
    key = authenticate(keys)
    asked = asked_priority()
    priority = key.priority(asked) if key else asked or Priority.INTERACTIVE
    record.priority, record.key = priority, key.name if key else None
    return Caller(ClientConnection(request.environ.get("gunicorn.socket")), record, priority, key)


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
        token = request.headers.get("X-Api-Key", "")  # as Anthropic's clients send it
    if not token:
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


def new_id(kind: str) -> str:
    """Return an id that nothing else has, in this answer or another one; Ollama's own are unique in one at most."""
    return f"{kind}_{uuid.uuid4().hex}"


def ndjson(item: dict[str, Any]) -> str:
    """Write one object of a stream as a line."""
    return json.dumps(item) + "\n"


def sse(item: dict[str, Any], event: str = "") -> str:
    """Write one object of a stream as a server-sent event, with its name if it has one."""
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(item)}\n\n"


def listing(fields: dict[str, Any], name: str, items: Iterable[Any]) -> Response:
    """Return an object of `fields`, and of a list that is written item by item, since all of it may be large."""

    def pieces() -> Iterator[str]:
        yield f'{json.dumps(fields)[:-1]}, "{name}": ['
        for number, item in enumerate(items):
            yield f"{', ' if number else ''}{json.dumps(item)}"
        yield "]}\n"

    return Response(pieces(), content_type="application/json")


def stream(
    answer: Generation, pieces: Iterable[str], content_type: str, broken: Callable[[ServiceError], str]
) -> Response:
    """Return a response of `pieces` as they come, and of what `broken` writes where they break off.

    The answer is closed with the response, also when the response was never started.
    """

    def body() -> Iterator[str]:
        try:
            yield from pieces
        except ServiceError as error:
            answer.close(error)
            yield broken(error)
        except ClientGone as gone:
            answer.close(gone)
        except Exception as error:
            log.exception("a stream failed")
            answer.close(error)
            yield broken(ServiceError(OWN_FAULT))

    response = Response(body(), content_type=content_type)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(answer.close)
    return response
