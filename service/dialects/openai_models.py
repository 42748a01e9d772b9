"""`GET /v1/models` and `GET /v1/models/{model}`, for OpenAI's clients and for Anthropic's."""

from typing import Any

from flask import Blueprint, Response, jsonify, request

from service.dialects.described import COUNT, TEXT, Route, list_of, object_of
from service.dialects.errors import ANTHROPIC_HEADER
from service.gateway import Gateway
from service.http_request import authenticate
from service.keys import Keys
from service.parsing import check_model

UNKNOWN_DATE = "1970-01-01T00:00:00Z"  # in Anthropic's API

MODEL = object_of(id=TEXT, object={"const": "model"}, created=COUNT, owned_by=TEXT)
MODELS = object_of(object={"const": "list"}, data=list_of(MODEL))
ROUTES = (
    Route("GET", "/v1/models", "List the served model", MODELS),
    Route("GET", "/v1/models/{model}", "Tell whether this model is served", MODEL),
)


def models_blueprint(gateway: Gateway, keys: Keys | None) -> Blueprint:
    """Return the routes. A header tells Anthropic's clients from OpenAI's."""
    blueprint = Blueprint("models", __name__)
    served = gateway.settings.model
    ours = {"id": served, "object": "model", "created": 0, "owned_by": "sluice"}
    theirs = {
        "type": "model",
        "id": served,
        "display_name": served,
        "created_at": UNKNOWN_DATE,
        "lifecycle": "active",
    }

    def told() -> dict[str, Any]:
        return theirs if ANTHROPIC_HEADER in request.headers else ours

    @blueprint.get("/v1/models")
    def models() -> Response:
        authenticate(keys)
        model = told()
        if model is theirs:
            return jsonify({"data": [model], "has_more": False, "first_id": served, "last_id": served})
        return jsonify({"object": "list", "data": [model]})

    @blueprint.get("/v1/models/<path:model>")
    def one_model(model: str) -> Response:
        authenticate(keys)
        check_model(model, gateway.settings)
        return jsonify(told())

    return blueprint
