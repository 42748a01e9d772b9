"""Embeddings of many texts: computed in batches, so that other requests wait for one batch only, and kept small."""

from array import array
from typing import Any

from service.engine_errors import answers_oddly
from service.errors import InvalidRequest
from service.gateway import Caller, Gateway
from service.generation import Generation
from service.reply import Reply

# Texts that the engine gets at a time. The texts of one request occupy all of Ollama's slots, so that another request
# waits for all of them; with fewer texts at a time, fewer are computed in parallel.
BATCH = 64
MAX_TEXTS = 2048  # OpenAI's limit
MAX_NUMBERS = 1 << 21  # in one answer, 8 bytes each: 2,048 texts of 1,024 dimensions


def embed_texts(gateway: Gateway, caller: Caller, inputs: dict[str, Any]) -> dict[str, Any]:
    """Run /api/embed in a slot and return Ollama's reply, with vectors as arrays. Raises a ServiceError or ClientGone.

    inputs: a list of texts in `input`, and the other fields of /api/embed.
    """
    gateway.need_embeddings()
    with Generation(gateway, caller) as answer:
        result = _embed(answer, inputs)
        answer.completed = True
    return result


def _embed(answer: Generation, inputs: dict[str, Any]) -> dict[str, Any]:
    """Open an answer and return Ollama's reply for all texts in `inputs`; count the tokens of each batch."""
    ollama, record, texts = answer.gateway.ollama, answer.caller.record, inputs["input"]
    vectors, reply = list["array[float]"](), dict[str, Any]()
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        payload = ollama.payload(**{**inputs, "input": batch}, truncate=False)
        if start:
            answer.go_on(payload)
        else:
            answer.open(ollama.embed_path, payload)
        reply = answer.ask(Reply.json)
        vectors += _vectors(reply, len(batch))
        tokens = reply.get("prompt_eval_count", 0)
        record.prompt_tokens = (record.prompt_tokens or 0) + tokens
        answer.gateway.metrics.prompt_tokens.inc(tokens)
        length = len(vectors[0])
        if len(texts) * length > MAX_NUMBERS:
            message = f"input: {len(texts)} texts of {length} numbers each; at most {MAX_NUMBERS // length} are allowed"
            raise InvalidRequest(message, hint="send fewer at a time")
    return {**reply, "embeddings": vectors, "prompt_eval_count": record.prompt_tokens}


def _vectors(reply: dict[str, Any], count: int) -> "list[array[float]]":
    try:
        vectors = [array("d", vector) for vector in reply["embeddings"]]
        if len(vectors) != count or not all(vectors):
            raise TypeError("not a vector for each text")
    except (TypeError, LookupError) as error:
        raise answers_oddly(error) from error
    return vectors
