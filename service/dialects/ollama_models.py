"""Ollama's routes about models: `/api/tags`, `/api/show`, `/api/ps` and `/api/version`; none changes a model."""

import re
from typing import Annotated, NoReturn

from flask import Blueprint, Response, jsonify
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from service.dialects.described import COUNT, TEXT, Route, list_of, object_of
from service.dialects.ollama_body import check_served
from service.engine_errors import RETRY_AFTER
from service.errors import EngineUnavailable, Forbidden, InvalidRequest
from service.gateway import Gateway
from service.http_request import authenticate, read_body
from service.keys import Keys
from service.model_facts import ModelFacts
from service.parsing import Body, Ignored, parse

Named = Annotated[str, Field(max_length=256)]


# The condition of show() below.
ONE_NAME: JsonDict = {
    "anyOf": [
        {"properties": {name: {"type": "string", "minLength": 1}}, "required": [name]} for name in ("model", "name")
    ]
}


class ShowBody(Body):
    """The body of POST /api/show. name: the former name of `model`."""

    model_config = ConfigDict(json_schema_extra=ONE_NAME)
    example = """send JSON, such as: curl "$URL/api/show" -d '{"model": "MODEL"}'"""

    model: Named = ""
    name: Named = ""
    verbose: Ignored
    system: Ignored
    template: Ignored
    options: Ignored


DETAILS = object_of(format=TEXT, family=TEXT, parameter_size=TEXT, quantization_level=TEXT)
ENTRY = {"name": TEXT, "model": TEXT, "size": COUNT, "digest": TEXT, "details": DETAILS}
LISTED = object_of(**ENTRY, modified_at=TEXT)
RUNNING = object_of(**ENTRY, expires_at=TEXT, size_vram=COUNT, context_length=COUNT)
SHOWN = object_of(details=DETAILS, model_info={"type": "object"}, capabilities=list_of(TEXT))
# The routes that change a server's models, including the upload of blobs and the check for them.
CHANGES = (
    ("POST", "/api/pull"),
    ("POST", "/api/push"),
    ("POST", "/api/create"),
    ("POST", "/api/copy"),
    ("DELETE", "/api/delete"),
    ("POST", "/api/blobs/{digest}"),
    ("HEAD", "/api/blobs/{digest}"),
)
ROUTES = (
    Route("GET", "/api/tags", "List the served model", object_of(models=list_of(LISTED))),
    Route("POST", "/api/show", "Tell of the served model", SHOWN, ShowBody),
    Route("GET", "/api/ps", "List the served model while it is loaded", object_of(models=list_of(RUNNING))),
    Route("GET", "/api/version", "Tell Ollama's version", object_of(version=TEXT)),
    *(Route(method, path, "Refused: the operator chooses the model", None) for method, path in CHANGES),
)


def ollama_models_blueprint(gateway: Gateway, keys: Keys | None) -> Blueprint:
    """Return the routes."""
    blueprint = Blueprint("ollama_models", __name__)

    def facts() -> ModelFacts:
        if gateway.watch.facts is None:
            raise EngineUnavailable("the model server has not told of the model yet", retry_after=RETRY_AFTER)
        return gateway.watch.facts

    @blueprint.get("/api/tags")
    def tags() -> Response:
        authenticate(keys)
        return jsonify({"models": [facts().listed]})

    @blueprint.post("/api/show")
    def show() -> Response:
        authenticate(keys)
        body = parse(ShowBody, read_body())
        if not (name := body.model or body.name):
            raise InvalidRequest("model: is required")
        check_served(name, gateway.settings)
        return jsonify(facts().shown)

    @blueprint.get("/api/ps")
    def ps() -> Response:
        authenticate(keys)
        facts()
        watch = gateway.watch
        return jsonify({"models": [watch.running] if watch.loaded and watch.running else []})

    @blueprint.get("/api/version")
    def version() -> Response:
        authenticate(keys)
        return jsonify({"version": facts().version})

    def refuse(**_digest: str) -> NoReturn:
        authenticate(keys)
        raise Forbidden(f"the operator of this server chooses its model, which is {gateway.settings.model}")

    for method, path in CHANGES:
        blueprint.add_url_rule(re.sub(r"{(\w+)}", r"<\1>", path), f"{method} {path}", refuse, methods=[method])
    return blueprint
