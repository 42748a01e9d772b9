"""Reading the current request: its caller, priority and body."""

from urllib.parse import unquote

from flask import current_app, g, request
from werkzeug.exceptions import RequestEntityTooLarge

from service.admission import FOR_EVERYBODY, Priority
from service.client import ClientConnection
from service.errors import Forbidden, InvalidRequest, Unauthorized
from service.front import MODEL_NAME
from service.gateway import Caller
from service.intake import Whole, too_large
from service.keys import Key, Keys
from service.request_log import RequestLog


def caller(keys: Keys | None) -> Caller:
    """Return the caller of the current request; raises Unauthorized, Forbidden, or InvalidRequest (bad priority)."""
    record: RequestLog = g.record
    key = authenticate(keys)
    asked = asked_priority()
    if asked is Priority.SMOKE and key is None:
        raise Forbidden("X-Priority: smoke needs an API key that allows it")
    priority = key.priority(asked) if key else asked or Priority.INTERACTIVE
    record.priority, record.key = priority, key.name if key else None
    return Caller(ClientConnection(request.environ.get("gunicorn.socket")), record, priority, key)


def asked_priority() -> Priority | None:
    """Return the priority that the current request asks for, if any; raises InvalidRequest."""
    text = request.headers.get("X-Priority")
    if text is None:
        return None
    if text.lower() not in list(Priority):
        raise InvalidRequest(f"X-Priority: must be {' or '.join(FOR_EVERYBODY)}")
    return Priority(text.lower())


def authenticate(keys: Keys | None) -> Key | None:
    """Return the key of the current request, or None if keys aren't enabled; raises Unauthorized."""
    if keys is None:
        return None
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        token = request.headers.get("X-Api-Key", "")  # used by Anthropic's clients
    if not token:
        raise Unauthorized("this server needs an API key", hint="send it as `Authorization: Bearer KEY`")
    return keys.authenticate(token.strip())


def named_model() -> str | None:
    """Return the model that the current request, which a front sends, is for; None: of a front with one model only."""
    return unquote(request.headers.get(MODEL_NAME, "")) or None


def read_body() -> bytes:
    """Return the body of the current request, which service/traffic.py has received in full; raises BodyTooLarge."""
    body = request.environ["wsgi.input"]
    if isinstance(body, Whole):
        return body.take()
    try:
        return request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise too_large(current_app.config["MAX_CONTENT_LENGTH"]) from None
