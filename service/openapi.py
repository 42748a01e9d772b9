"""`GET /openapi.json`: the API as an OpenAPI document, made from the classes that check the requests."""

from collections.abc import Iterable
from functools import cache, partial
from typing import Any

from flask import Blueprint, Response, jsonify
from pydantic.json_schema import models_json_schema

from service.chat_body import ChatBody
from service.embeddings import EmbeddingsBody
from service.errors import ServiceError
from service.generate import GenerateBody
from service.parsing import Body
from service.settings import Settings

Document = dict[str, Any]

RETRIED = (429, 502, 503)  # these always say when to come back; see service/errors.py
GENERATING = (400, 404, 413, 429, 502, 503, 504)
RETRY_AFTER = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}
TEXT, NUMBER, COUNT = {"type": "string"}, {"type": "number"}, {"type": "integer", "minimum": 0}
PRIORITY = {
    "name": "X-Priority",
    "in": "header",
    "description": "Interactive requests go first.",
    "schema": {"enum": ["interactive", "batch"], "default": "interactive"},
}


def openapi_blueprint(settings: Settings) -> Blueprint:
    """Return the route."""
    blueprint = Blueprint("openapi", __name__)
    document = cache(partial(openapi, settings))  # which nobody may ask for, and no start waits for

    @blueprint.get("/openapi.json")
    def describe() -> Response:
        return jsonify(document())

    return blueprint


def openapi(settings: Settings) -> Document:
    """Return the document for a service with these settings."""
    kinds: list[type[Body]] = [GenerateBody, ChatBody, EmbeddingsBody]
    _, defined = models_json_schema(
        [(kind, "validation") for kind in kinds], ref_template="#/components/schemas/{model}"
    )
    schemas = defined["$defs"]
    for kind in kinds:
        _apply(settings, schemas[kind.__name__]["properties"])
    schemas |= ANSWERS
    document: Document = {
        "openapi": "3.1.0",
        "info": {"title": "Sluice", "version": "1", "description": "A language model behind a queue."},
        "paths": {
            "/generate": {"post": _asking(GenerateBody, "Answer a prompt", _generated(), settings)},
            "/v1/chat/completions": {"post": _asking(ChatBody, "Go on with a conversation", _chatted(), settings)},
            "/v1/embeddings": {"post": _asking(EmbeddingsBody, "Embed texts", _json("Embeddings"), settings)},
            "/v1/models": {
                "get": {
                    "summary": "List the served model",
                    "responses": {"200": _json("Models"), **_errors((), settings)},
                }
            },
        },
        "components": {"schemas": schemas},
    }
    if settings.api_keys_file:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def _apply(settings: Settings, properties: Document) -> None:
    """Write the settings' limits into a body's fields."""
    for name in ("max_tokens", "max_completion_tokens"):
        if name in properties:
            properties[name]["anyOf"][0]["maximum"] = settings.max_tokens
    model = {"type": "string", "enum": [settings.model]}
    properties["model"] = model if "anyOf" not in properties["model"] else {"anyOf": [model, {"type": "null"}]}
    if "images" in properties:
        properties["images"]["anyOf"][0]["maxItems"] = settings.max_images


def _asking(kind: type[Body], summary: str, answer: Document, settings: Settings) -> Document:
    body = {"required": True, "content": {"application/json": {"schema": _ref(kind.__name__)}}}
    return {
        "summary": summary,
        "parameters": [PRIORITY],
        "requestBody": body,
        "responses": {"200": answer, **_errors(GENERATING, settings)},
    }


def _errors(statuses: Iterable[int], settings: Settings) -> Document:
    """Return the error responses, with the codes that the error classes have for each status."""
    wanted = [*statuses, *([401] if settings.api_keys_file else [])]
    codes = {
        status: [kind.code for kind in ServiceError.__subclasses__() if kind.status == status] for status in wanted
    }
    return {
        str(status): {
            **_json("Error", f"`{'`, `'.join(codes[status])}`"),
            **({"headers": RETRY_AFTER} if status in RETRIED else {}),
        }
        for status in sorted(wanted)
    }


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(name: str, description: str = "The whole answer") -> Document:
    return {"description": description, "content": {"application/json": {"schema": _ref(name)}}}


def _generated() -> Document:
    answer = _json("Generated", "The whole answer; its pieces, for `stream: true`")
    answer["content"] |= {"application/x-ndjson": {"schema": TEXT}, "text/event-stream": {}}
    return answer


def _chatted() -> Document:
    answer = _json("Completion", "The whole answer; its pieces, for `stream: true`")
    answer["content"] |= {"text/event-stream": {}}
    return answer


def _object(**fields: Any) -> Document:
    return {"type": "object", "properties": fields, "required": list(fields)}


def _list(items: Document) -> Document:
    return {"type": "array", "items": items}


USAGE = _object(prompt_tokens=COUNT, completion_tokens=COUNT)
MESSAGE = _object(role={"const": "assistant"}, content={"type": ["string", "null"]})
ANSWERS: Document = {
    "Error": _object(error=_object(code=TEXT, message=TEXT, hint={"type": ["string", "null"]})),
    "Generated": _object(
        response=TEXT,
        model=TEXT,
        finish_reason={"enum": ["stop", "length"]},
        usage=USAGE,
        timings=_object(queued_ms=NUMBER, first_token_ms=NUMBER, total_ms=NUMBER),
    ),
    "Completion": _object(
        id=TEXT,
        object={"const": "chat.completion"},
        created=COUNT,
        model=TEXT,
        choices=_list(_object(index=COUNT, message=MESSAGE, finish_reason={"enum": ["stop", "length", "tool_calls"]})),
        usage=_object(prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT),
    ),
    "Embeddings": _object(
        object={"const": "list"},
        data=_list(_object(object={"const": "embedding"}, index=COUNT, embedding={"type": ["array", "string"]})),
        model=TEXT,
        usage=_object(prompt_tokens=COUNT, total_tokens=COUNT),
    ),
    "Models": _object(object={"const": "list"}, data=_list(_object(id=TEXT, object={"const": "model"}, created=COUNT))),
}
