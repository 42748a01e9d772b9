"""`GET /openapi.json`: the API as an OpenAPI document, generated from the classes that validate the requests."""

import re
from collections.abc import Iterable
from functools import lru_cache, partial
from typing import Any

from flask import Blueprint, Response, jsonify
from pydantic.json_schema import models_json_schema

from service.dialects import (
    anthropic_messages,
    generate,
    ollama_chat,
    ollama_embed,
    ollama_models,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_models,
    openai_responses,
)
from service.dialects.anthropic_blocks import ImageBlock
from service.dialects.described import TEXT, Document, Route, object_of
from service.dialects.errors import form_of
from service.dialects.openai_messages import ImagePart
from service.dialects.openai_responses_items import InputImage
from service.errors import ServiceError
from service.models import Models
from service.ollama import SEES, THINKS
from service.parsing import or_null
from service.settings import Settings

ROUTES: tuple[Route, ...] = (
    *generate.ROUTES,
    *openai_chat.ROUTES,
    *openai_completions.ROUTES,
    *openai_responses.ROUTES,
    *openai_embeddings.ROUTES,
    *openai_models.ROUTES,
    *ollama_chat.ROUTES,
    *ollama_embed.ROUTES,
    *ollama_models.ROUTES,
    *anthropic_messages.ROUTES,
)
IMAGE_PARTS = [part.__name__ for part in (ImagePart, InputImage, ImageBlock)]
RETRIED = (429, 502, 503)  # always with Retry-After; see service/errors.py
GENERATING = (400, 404, 413, 422, 429, 502, 503, 504)
IN_PATH = re.compile(r"{(\w+)}")
RETRY_AFTER = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}
PRIORITY = {
    "name": "X-Priority",
    "in": "header",
    "description": "Interactive requests go first.",
    "schema": {"enum": ["interactive", "batch"], "default": "interactive"},
}
MAYBE = {"type": ["string", "null"]}
ERRORS: Document = {
    "ours": object_of(error=object_of(code=TEXT, message=TEXT, hint=MAYBE)),
    "openai": object_of(error=object_of(message=TEXT, type=TEXT, param=MAYBE, code=TEXT, hint=MAYBE)),
    "ollama": object_of(error=TEXT),
    "anthropic": object_of(type={"const": "error"}, error=object_of(type=TEXT, message=TEXT), request_id=TEXT),
}


def openapi_blueprint(models: Models) -> Blueprint:
    """Return the route."""
    blueprint = Blueprint("openapi", __name__)
    document = lru_cache(1)(partial(openapi, models.settings))  # lazily: nobody may ask for it

    @blueprint.get("/openapi.json")
    def describe() -> Response:
        known = [gateway.watch.capabilities for gateway in models.gateways]
        return jsonify(document(frozenset().union(*known) if all(known) else frozenset()))

    return blueprint


def openapi(settings: Settings, capabilities: frozenset[str] = frozenset()) -> Document:
    """Return the document for these settings and what the models can do, at least one of them (empty while unknown)."""
    kinds = list(dict.fromkeys(route.body for route in ROUTES if route.body))
    _, defined = models_json_schema(
        [(kind, "validation") for kind in kinds], ref_template="#/components/schemas/{model}"
    )
    schemas = defined["$defs"]
    for kind in kinds:
        _apply(settings, schemas[kind.__name__]["properties"])
    if capabilities:
        _withhold(capabilities, schemas)
    schemas |= {f"{name.capitalize()}Error": schema for name, schema in ERRORS.items()}
    paths: Document = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, settings)
    document: Document = {
        "openapi": "3.1.0",
        "info": {"title": "Sluice", "version": "1", "description": "A language model behind a queue."},
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if settings.api_keys_file:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def _apply(settings: Settings, properties: Document) -> None:
    """Set the limits of the settings in a body's fields."""
    if "model" in properties:
        model = {"type": "string", "enum": [*settings.names.models, *settings.names.aliases]}
        properties["model"] = model if "anyOf" not in properties["model"] else {"anyOf": [model, {"type": "null"}]}
    if "images" in properties:
        properties["images"]["anyOf"][0]["maxItems"] = settings.max_images


def _withhold(capabilities: frozenset[str], schemas: Document) -> None:
    """Remove from the bodies what no model can do."""
    if THINKS not in capabilities:
        for properties in (schema["properties"] for schema in schemas.values() if "think" in schema["properties"]):
            properties["think"] = or_null({"const": False, "default": False})
    if SEES not in capabilities:
        for properties in (schema["properties"] for schema in schemas.values() if "images" in schema["properties"]):
            properties["images"]["anyOf"][0]["maxItems"] = 0
        schemas |= {name: {"not": {}, "description": "The model can't see images."} for name in IMAGE_PARTS}


def _operation(route: Route, settings: Settings) -> Document:
    named = [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in IN_PATH.findall(route.path)]
    told = {"parameters": named} if named else {}
    unread = (400,) if named else ()  # a parameter with an invalid % escape
    if route.answer is None:
        return {"summary": route.summary, **told, "responses": _errors(route.path, (*unread, 403), settings)}
    content = {"application/json": {"schema": route.answer}, **(route.pieces or {})}
    whole = "The whole answer; its pieces, for a stream" if route.pieces else "The whole answer"
    answers = {"200": {"description": whole, "content": content}}
    if route.body is None:
        statuses = (*unread, 404) if named else ()
        return {"summary": route.summary, **told, "responses": {**answers, **_errors(route.path, statuses, settings)}}
    schema = {"$ref": f"#/components/schemas/{route.body.__name__}"}
    return {
        "summary": route.summary,
        "parameters": [PRIORITY],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {**answers, **_errors(route.path, GENERATING, settings)},
    }


def _errors(path: str, statuses: Iterable[int], settings: Settings) -> Document:
    """Return the error responses, with the codes of the error classes of each status."""
    form = form_of(path)
    of_keys = (401, 403) if settings.api_keys_file else ()
    codes: dict[int, list[str]] = {status: [] for status in (*statuses, *of_keys)}
    for kind in ServiceError.__subclasses__():
        if (status := form.status(kind(""))) in codes:
            codes[status].append(kind.code)
    schema = {"$ref": f"#/components/schemas/{form.body.__name__.capitalize()}Error"}
    return {str(status): _error(schema, status, names) for status, names in sorted(codes.items())}


def _error(schema: Document, status: int, codes: list[str]) -> dict[str, Any]:
    told = {"description": f"`{'`, `'.join(codes)}`", "content": {"application/json": {"schema": schema}}}
    return {**told, "headers": RETRY_AFTER} if status in RETRIED else told
