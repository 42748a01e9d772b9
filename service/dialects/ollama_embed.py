"""`POST /api/embed`, and the older `POST /api/embeddings`, for Ollama's own clients."""

from typing import Annotated

from flask import Blueprint, Response, g, jsonify
from pydantic import Field

from service.dialects.described import COUNT, NUMBER, TEXT, Route, list_of, object_of
from service.dialects.ollama_answers import check_ready, nanoseconds
from service.dialects.ollama_body import KeepAlive, Options, find_model, told_name
from service.dialects.unions import TextOrList
from service.embedding import MAX_TEXTS, embed_texts
from service.gateway import Caller, Gateway
from service.http_request import caller, read_body
from service.keys import Keys
from service.model_facts import Fields
from service.models import Models
from service.parsing import WHOLE, Body, Ignored, Items, Name, check_size, drop_none, parse
from service.streams import listing

Texts = TextOrList[str, Annotated[Items[str], Field(max_length=MAX_TEXTS)]]


class Embedded(Body):
    """The common fields of both bodies. A text that doesn't fit the context is refused, despite `truncate`."""

    model: Name
    options: Options = Field(default_factory=lambda: Options.model_validate({}))
    keep_alive: KeepAlive | None = None
    truncate: Ignored


class EmbedBody(Embedded):
    """The body of POST /api/embed: a text or a list of texts; without one, it asks to load the model."""

    example = """send JSON, such as: curl "$URL/api/embed" -d '{"model": "MODEL", "input": "Hi"}'"""

    input: Texts = ""
    dimensions: Annotated[int, Field(ge=0, le=65536), WHOLE] | None = None

    def texts(self) -> dict[str, str]:
        """Return the texts, by field."""
        if isinstance(self.input, list):
            return {f"input[{i}]": text for i, text in enumerate(self.input)}
        return {"input": self.input} if self.input else {}


class OllamaEmbeddingsBody(Embedded):
    """The body of POST /api/embeddings: one text; without it, the body asks to load the model."""

    example = """send JSON, such as: curl "$URL/api/embeddings" -d '{"model": "MODEL", "prompt": "Hi"}'"""

    prompt: str = ""
    input: Ignored  # added by Open WebUI

    def texts(self) -> dict[str, str]:
        """Return the texts, by field."""
        return {"prompt": self.prompt} if self.prompt else {}


VECTOR = list_of(NUMBER)
EMBEDDINGS = object_of(model=TEXT, embeddings=list_of(VECTOR))
EMBEDDINGS["properties"] |= dict.fromkeys(("total_duration", "load_duration", "prompt_eval_count"), COUNT)
ROUTES = (
    Route("POST", "/api/embed", "Embed texts", EMBEDDINGS, EmbedBody),
    Route("POST", "/api/embeddings", "Embed a text", object_of(embedding=VECTOR), OllamaEmbeddingsBody),
)


def ollama_embed_blueprint(models: Models, keys: Keys | None) -> Blueprint:
    """Return the routes."""
    blueprint = Blueprint("ollama_embed", __name__)

    @blueprint.post("/api/embed")
    def embed() -> Response:
        who, body = caller(keys), parse(EmbedBody, read_body())
        gateway = find_model(models, body.model, who.key)
        name = told_name(body.model, gateway)
        told = embedded(gateway, who, body, dimensions=body.dimensions or None)
        if told is None:
            return jsonify({"model": name, "embeddings": []})
        figures = {
            "model": name,
            "total_duration": nanoseconds(g.record.elapsed_ms()),
            "load_duration": told.get("load_duration", 0),
            "prompt_eval_count": told["prompt_eval_count"],
        }
        return listing(figures, "embeddings", map(list, told["embeddings"]))

    @blueprint.post("/api/embeddings")
    def embeddings() -> Response:
        who, body = caller(keys), parse(OllamaEmbeddingsBody, read_body())
        told = embedded(find_model(models, body.model, who.key), who, body)
        return jsonify({"embedding": list(told["embeddings"][0]) if told else []})

    return blueprint


def embedded(
    gateway: Gateway, who: Caller, body: EmbedBody | OllamaEmbeddingsBody, **more: int | None
) -> Fields | None:
    """Return Ollama's result for the body's texts, None if there are none."""
    texts = body.texts()
    check_size(((name, len(text)) for name, text in texts.items()), gateway.settings)
    if texts:
        return embed_texts(gateway, who, {"input": list(texts.values()), **drop_none(**more)})
    gateway.need_embeddings()
    check_ready(gateway)
    return None
