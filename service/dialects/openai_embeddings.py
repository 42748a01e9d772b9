"""`POST /v1/embeddings` and `GET /v1/models`, for OpenAI's own clients."""

import base64
import struct
from typing import Annotated, Any, Literal

from flask import Blueprint, Response, jsonify
from pydantic import Discriminator, Field, Tag

from service.dialects.described import COUNT, TEXT, Route, list_of, object_of
from service.gateway import Gateway
from service.keys import Keys
from service.parsing import WHOLE, Body, Items, Name, Text, check_model, check_size, given, parse
from service.routing import authenticate, caller, read_body

Input = Annotated[
    Annotated[Text, Tag("text")] | Annotated[Items[Text], Field(min_length=1, max_length=256), Tag("texts")],
    Discriminator(lambda value: "texts" if isinstance(value, list) else "text"),
]


class EmbeddingsBody(Body):
    """The body of POST /v1/embeddings; input is text or up to 256 texts, not token numbers."""

    example = """send JSON, such as: curl "$URL/v1/embeddings" -d '{"model": "MODEL", "input": "Hi"}'"""

    model: Name
    input: Input
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=65536), WHOLE] | None = None

    def for_ollama(self, gateway: Gateway) -> dict[str, Any]:
        """Return the fields for Ollama; raises a ServiceError."""
        check_model(self.model, gateway.settings)
        texts = [self.input] if isinstance(self.input, str) else self.input
        names = ["input"] if isinstance(self.input, str) else [f"input[{i}]" for i in range(len(texts))]
        check_size(zip(names, map(len, texts), strict=True), gateway.settings)
        return {"input": texts, **given(dimensions=self.dimensions)}


EMBEDDING = object_of(object={"const": "embedding"}, index=COUNT, embedding={"type": ["array", "string"]})
USAGE = object_of(prompt_tokens=COUNT, total_tokens=COUNT)
EMBEDDINGS = object_of(object={"const": "list"}, data=list_of(EMBEDDING), model=TEXT, usage=USAGE)
MODEL = object_of(id=TEXT, object={"const": "model"}, created=COUNT)
MODELS = object_of(object={"const": "list"}, data=list_of(MODEL))
ROUTES = (
    Route("POST", "/v1/embeddings", "Embed texts", EMBEDDINGS, EmbeddingsBody),
    Route("GET", "/v1/models", "List the served model", MODELS),
)


def embeddings_blueprint(gateway: Gateway, keys: Keys | None) -> Blueprint:
    """Return the routes."""
    blueprint = Blueprint("embeddings", __name__)

    @blueprint.post("/v1/embeddings")
    def embeddings() -> Response:
        who = caller(keys)
        body = parse(EmbeddingsBody, read_body())
        result = gateway.embed(who, body.for_ollama(gateway))
        encode = as_base64 if body.encoding_format == "base64" else list
        data = [
            {"object": "embedding", "index": index, "embedding": encode(vector)}
            for index, vector in enumerate(result["embeddings"])
        ]
        tokens = result.get("prompt_eval_count", 0)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return jsonify({"object": "list", "data": data, "model": gateway.settings.model, "usage": usage})

    @blueprint.get("/v1/models")
    def models() -> Response:
        authenticate(keys)
        served = {"id": gateway.settings.model, "object": "model", "created": 0, "owned_by": "sluice"}
        return jsonify({"object": "list", "data": [served]})

    return blueprint


def as_base64(vector: list[float]) -> str:
    """Return a vector as OpenAI's clients ask for it: little-endian 32-bit floats in base64."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
