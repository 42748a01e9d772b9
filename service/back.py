"""`/engine/…`: the API that fronts use, through HAProxy. Nobody else can reach it, so nothing is checked twice.

Bodies and answers are Ollama's, without the model's name and its load options: each pod adds its own, so that every
request works while pods of two releases run at the same time.
"""

import json
import logging
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from flask import Blueprint, Response, g, request

from service.admission import Priority
from service.call import DEATHS_HEADER
from service.client import ClientConnection
from service.complaints import shown
from service.embedding import embed_texts
from service.engine_errors import RETRY_AFTER, SEND_AGAIN, EngineDied
from service.error_handlers import answer_error
from service.errors import EngineFailed, GenerationTimeout, InvalidRequest, ServiceError
from service.front import PREFIX
from service.gateway import KEY_NAME, Caller, Gateway
from service.generation import QUEUED_HEADERS, Generation, generate
from service.http_request import named_model, read_body
from service.model_names import full_name
from service.streams import NDJSON, listing

log = logging.getLogger("sluice")

CHAT_FIELDS = ("messages", "tools", "format", "think")
EMBED_FIELDS = ("input", "dimensions")


# HAProxy takes a pod out of rotation after three answers of 500 or more, except 501 (`observe layer7`). These errors
# may be the request's fault as much as the pod's, so they are sent as a 501; the front recognises them by their code.
BLAMELESS = (EngineFailed.code, GenerationTimeout.code)


def back_blueprint(gateway: Gateway) -> Blueprint:
    """Return the routes."""
    blueprint = Blueprint("back", __name__)

    @blueprint.errorhandler(ServiceError)
    def failed(error: ServiceError) -> Response:
        response = answer_error(error)
        if error.code in BLAMELESS and not isinstance(error, EngineDied):
            response.status_code = HTTPStatus.NOT_IMPLEMENTED
        return response

    @blueprint.before_request
    def check_model() -> None:
        name = named_model()
        if name is not None and full_name(name) != full_name(gateway.settings.model):
            log.error("a request for the model %s came to a pod of %s", shown(name), gateway.settings.model)
            raise EngineFailed("the request reached a pod of another model", hint=SEND_AGAIN, retry_after=RETRY_AFTER)

    @blueprint.post(f"{PREFIX}/chat")
    def chat() -> Response:
        who, payload = front(), read_payload()
        fields = {name: payload[name] for name in CHAT_FIELDS if name in payload}
        answer = generate(gateway, who, fields, payload.get("options") or {})
        return with_wait(NDJSON.respond(answer, lines(answer), broken), who)

    @blueprint.post(f"{PREFIX}/embed")
    def embed() -> Response:
        who, payload = front(), read_payload()
        fields = {name: payload[name] for name in EMBED_FIELDS if name in payload}
        vectors = (result := embed_texts(gateway, who, fields)).pop("embeddings")
        return with_wait(listing(result, "embeddings", map(list, vectors)), who)

    return blueprint


def front() -> Caller:
    """Return the caller of the current request, whose key and priority the front has checked."""
    priority = Priority(request.headers.get("X-Priority", Priority.INTERACTIVE))
    g.record.priority = priority
    g.record.key = unquote(request.headers.get(KEY_NAME, "")) or None
    deaths = int(request.headers.get(DEATHS_HEADER, 0))
    return Caller(ClientConnection(request.environ.get("gunicorn.socket")), g.record, priority, deaths=deaths)


def read_payload() -> dict[str, Any]:
    """Return the body of the current request; raises InvalidRequest if it isn't a JSON object."""
    try:
        payload = json.loads(read_body())
    except ValueError:
        payload = None
    if not isinstance(payload, dict):
        raise InvalidRequest("body: must be a JSON object")
    return payload


def with_wait(response: Response, who: Caller) -> Response:
    """Tell the front how long its request waited here, in addition to HAProxy's queue."""
    response.headers[QUEUED_HEADERS[-1]] = str(who.record.queued_ms or 0)
    return response


def broken(error: ServiceError) -> list[dict[str, Any]]:
    """Return the last line of an answer that fails, with which the front learns whether the engine died during it."""
    return [{**error.body(), "died": isinstance(error, EngineDied)}]


def lines(answer: Generation) -> Iterator[dict[str, Any]]:
    """Yield an answer in Ollama's form: messages, and a last line with the figures."""
    for message in answer:
        yield {"message": message, "done": False}
    record = answer.caller.record
    yield {
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": record.finish_reason,
        "prompt_eval_count": record.prompt_tokens,
        "eval_count": record.completion_tokens,
        **answer.durations,
        "busy_slots": answer.busy_slots,
    }
