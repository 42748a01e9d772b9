"""`POST /v1/embeddings`, for OpenAI's own clients."""

import base64
import struct
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

from flask import Blueprint, Response
from pydantic import AfterValidator, BeforeValidator, Field

from service.dialects.described import COUNT, TEXT, Route, list_of, object_of
from service.dialects.unions import TextOrList
from service.embedding import MAX_TEXTS, embed_texts
from service.http_request import caller, read_body
from service.keys import Keys
from service.models import Models
from service.parsing import WHOLE, Body, Ignored, Items, Name, check_size, drop_none, parse
from service.settings import Settings
from service.streams import listing

TOKENS = "token numbers stand for another text in each vocabulary, so send texts"
IN_LANGCHAIN = " (in LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))"


def no_tokens(value: Any, advice: str = "") -> Any:
    """Refuse a list of token numbers, or of such lists; raises ValueError."""
    first = value[0] if isinstance(value, list) and value else None
    is_token = isinstance(first, int | list) and not isinstance(first, bool)
    if is_token:
        raise ValueError(TOKENS + advice)
    return value


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


Embedded = Annotated[str, AfterValidator(_not_empty), Field(json_schema_extra={"minLength": 1})]  # blanks are allowed
Input = Annotated[
    TextOrList[Embedded, Annotated[Items[Embedded], Field(min_length=1, max_length=MAX_TEXTS)]],
    BeforeValidator(partial(no_tokens, advice=IN_LANGCHAIN)),
]


class EmbeddingsBody(Body):
    """The body of POST /v1/embeddings; input is a text or a list of texts, not token numbers."""

    example = """send JSON, such as: curl "$URL/v1/embeddings" -d '{"model": "MODEL", "input": "Hi"}'"""

    model: Name
    input: Input
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=65536), WHOLE] | None = None
    user: Ignored

    def for_ollama(self, settings: Settings) -> dict[str, Any]:
        """Return the fields for Ollama; raises a ServiceError."""
        texts = [self.input] if isinstance(self.input, str) else self.input
        names = ["input"] if isinstance(self.input, str) else [f"input[{i}]" for i in range(len(texts))]
        check_size(zip(names, map(len, texts), strict=True), settings)
        return {"input": texts, **drop_none(dimensions=self.dimensions)}


EMBEDDING = object_of(object={"const": "embedding"}, index=COUNT, embedding={"type": ["array", "string"]})
USAGE = object_of(prompt_tokens=COUNT, total_tokens=COUNT)
EMBEDDINGS = object_of(object={"const": "list"}, data=list_of(EMBEDDING), model=TEXT, usage=USAGE)
ROUTES = (Route("POST", "/v1/embeddings", "Embed texts", EMBEDDINGS, EmbeddingsBody),)


def embeddings_blueprint(models: Models, keys: Keys | None) -> Blueprint:
    """Return the route."""
    blueprint = Blueprint("embeddings", __name__)

    @blueprint.post("/v1/embeddings")
    def embeddings() -> Response:
        who = caller(keys)
        body = parse(EmbeddingsBody, read_body())
        gateway = models.find(body.model, who.key)
        result = embed_texts(gateway, who, body.for_ollama(gateway.settings))
        encode = as_base64 if body.encoding_format == "base64" else list
        data = (
            {"object": "embedding", "index": index, "embedding": encode(vector)}
            for index, vector in enumerate(result["embeddings"])
        )
        tokens = result["prompt_eval_count"]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return listing({"object": "list", "model": gateway.settings.model, "usage": usage}, "data", data)

    return blueprint


def as_base64(vector: Sequence[float]) -> str:
    """Return a vector in base64, as little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
