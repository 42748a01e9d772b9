"""`GET /v1/models` and `GET /v1/models/{model}`, for OpenAI's clients and for Anthropic's."""

from typing import Any

from flask import Blueprint, Response, jsonify, request

from service.dialects.described import COUNT, TEXT, Route, list_of, object_of
from service.dialects.errors import ANTHROPIC_HEADER
from service.http_request import authenticate
from service.keys import Keys
from service.models import Models

UNKNOWN_DATE = "1970-01-01T00:00:00Z"  # in Anthropic's API

MODEL = object_of(id=TEXT, object={"const": "model"}, created=COUNT, owned_by=TEXT)
MODELS = object_of(object={"const": "list"}, data=list_of(MODEL))
ROUTES = (
    Route("GET", "/v1/models", "List the served models", MODELS),
    Route("GET", "/v1/models/{model}", "Tell whether this model is served", MODEL),
)


def models_blueprint(models: Models, keys: Keys | None) -> Blueprint:
    """Return the routes."""
    blueprint = Blueprint("models", __name__)

    @blueprint.get("/v1/models")
    def list_models() -> Response:
        told = [entry(gateway.settings.model) for gateway in models.allowed(authenticate(keys))]
        if ANTHROPIC_HEADER in request.headers:
            return jsonify({"data": told, "has_more": False, "first_id": told[0]["id"], "last_id": told[-1]["id"]})
        return jsonify({"object": "list", "data": told})

    @blueprint.get("/v1/models/<path:model>")
    def one_model(model: str) -> Response:
        return jsonify(entry(models.find(model, authenticate(keys)).settings.model))

    return blueprint


def entry(name: str) -> dict[str, Any]:
    """Return what is told of a model to the client of the current request: a header tells Anthropic's from OpenAI's."""
    if ANTHROPIC_HEADER in request.headers:
        about = {"display_name": name, "created_at": UNKNOWN_DATE, "lifecycle": "active"}
        return {"type": "model", "id": name, **about}
    return {"id": name, "object": "model", "created": 0, "owned_by": "sluice"}
