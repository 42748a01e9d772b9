"""Ollama's routes about models: `/api/tags`, `/api/show`, `/api/ps` and `/api/version`; none changes a model."""

import re
from collections.abc import Iterable
from typing import Annotated, NoReturn

from flask import Blueprint, Response, jsonify
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from service.dialects.described import COUNT, TEXT, Route, list_of, object_of
from service.dialects.ollama_body import find_model
from service.engine_errors import RETRY_AFTER
from service.errors import EngineUnavailable, Forbidden, InvalidRequest
from service.gateway import Gateway
from service.http_request import authenticate, read_body
from service.keys import Keys
from service.model_facts import ModelFacts
from service.models import Models
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
    Route("GET", "/api/tags", "List the served models", object_of(models=list_of(LISTED))),
    Route("POST", "/api/show", "Tell of a served model", SHOWN, ShowBody),
    Route("GET", "/api/ps", "List the served models that are loaded", object_of(models=list_of(RUNNING))),
    Route("GET", "/api/version", "Tell Ollama's version", object_of(version=TEXT)),
    *(Route(method, path, "Refused: the operator chooses the models", None) for method, path in CHANGES),
)


def ollama_models_blueprint(models: Models, keys: Keys | None) -> Blueprint:
    """Return the routes."""
    blueprint = Blueprint("ollama_models", __name__)

    @blueprint.get("/api/tags")
    def tags() -> Response:
        return jsonify({"models": [facts.listed for facts in known_facts(models.allowed(authenticate(keys)))]})

    @blueprint.post("/api/show")
    def show() -> Response:
        key, body = authenticate(keys), parse(ShowBody, read_body())
        if not (name := body.model or body.name):
            raise InvalidRequest("model: is required")
        return jsonify(known_facts([find_model(models, name, key)])[0].shown)

    @blueprint.get("/api/ps")
    def ps() -> Response:
        allowed = models.allowed(authenticate(keys))
        known_facts(allowed)
        watches = [gateway.watch for gateway in allowed]
        return jsonify({"models": [watch.running for watch in watches if watch.loaded and watch.running]})

    @blueprint.get("/api/version")
    def version() -> Response:
        return jsonify({"version": known_facts(models.allowed(authenticate(keys)))[0].version})

    def refuse(**_digest: str) -> NoReturn:
        allowed = [gateway.settings.model for gateway in models.allowed(authenticate(keys))]
        what = "model, which is" if len(allowed) == 1 else "models, which are"
        raise Forbidden(f"the operator of this server chooses its {what} {models.settings.names.told(allowed)}")

    for method, path in CHANGES:
        blueprint.add_url_rule(re.sub(r"{(\w+)}", r"<\1>", path), f"{method} {path}", refuse, methods=[method])
    return blueprint


def known_facts(gateways: Iterable[Gateway]) -> list[ModelFacts]:
    """Return the facts of those models of which the model server has told; raises EngineUnavailable if there are none.

    On a cluster a model without any pod since this process began is such a model.
    """
    known = [gateway.watch.facts for gateway in gateways if gateway.watch.facts is not None]
    if not known:
        raise EngineUnavailable("the model server has not told of the model yet", retry_after=RETRY_AFTER)
    return known
