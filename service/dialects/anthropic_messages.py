"""`POST /v1/messages` and `POST /v1/messages/count_tokens`, for Anthropic's clients and agents built on them."""

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from flask import Blueprint, Response, jsonify

from service.dialects.anthropic_body import CountTokensBody, MessagesBody
from service.dialects.described import COUNT, EVENTS, TEXT, Route, list_of, object_of
from service.dialects.errors import ANTHROPIC
from service.generation import Generation
from service.http_request import caller, read_body
from service.keys import Keys
from service.models import Models
from service.parsing import parse
from service.question import Question
from service.streams import NAMED_SSE, new_id

Block = dict[str, Any]
EMPTY: dict[str, Block] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}
USAGE = object_of(input_tokens=COUNT, output_tokens=COUNT)
MESSAGE = object_of(
    id=TEXT,
    type={"const": "message"},
    role={"const": "assistant"},
    model=TEXT,
    content=list_of(object_of(type={"enum": ["text", "thinking", "tool_use"]})),
    stop_reason={"enum": ["end_turn", "max_tokens", "tool_use"]},
    usage=USAGE,
)
ROUTES = (
    Route("POST", "/v1/messages", "Go on with a conversation, in Anthropic's form", MESSAGE, MessagesBody, EVENTS),
    Route(
        "POST",
        "/v1/messages/count_tokens",
        "Count a conversation's tokens",
        object_of(input_tokens=COUNT),
        CountTokensBody,
    ),
)


def messages_blueprint(models: Models, keys: Keys | None) -> Blueprint:
    """Return the routes."""
    blueprint = Blueprint("messages", __name__)

    @blueprint.post("/v1/messages")
    def messages() -> Response:
        who, (question, thoughts) = caller(keys), asked()
        answer = question.ask(models.find(question.model, who.key), who)
        if question.stream:
            request_id = who.record.request_id
            return NAMED_SSE.respond(
                answer, events(answer, thoughts), lambda error: [ANTHROPIC.told(error, request_id)]
            )
        with answer:
            return jsonify(message(answer, thoughts))

    @blueprint.post("/v1/messages/count_tokens")
    def count_tokens() -> Response:
        # Only the engine counts exactly, and it reports the count only with an answer. So a single token is generated,
        # in a slot. The prompt stays in that slot's cache, where the answer to it can then continue.
        who, question = caller(keys), parse(CountTokensBody, read_body()).question()
        with question.ask(models.find(question.model, who.key), who, fitting=False) as answer:
            answer.whole()
            return jsonify({"input_tokens": answer.usage["prompt_tokens"]})

    return blueprint


def asked() -> tuple[Question, bool]:
    """Return the question in the current request, and whether the answer contains the model's thoughts."""
    body = parse(MessagesBody, read_body())
    return body.question(), body.shows_thoughts


def message(answer: Generation, thoughts: bool) -> dict[str, Any]:
    """Return the whole answer as one object."""
    content: list[Block] = []
    for kind, group in groupby(pieces(answer.whole(), thoughts), itemgetter(0)):
        if kind == "tool_use":
            content += [tool_use(function) for _, function in group]
        else:
            content.append({**EMPTY[kind], kind: "".join(text for _, text in group)})
    called = any(block["type"] == "tool_use" for block in content)
    ending = {"stop_reason": stop_reason(answer, called), "usage": usage(answer.usage)}
    return {**envelope(answer), "content": content, **ending}


def events(answer: Generation, thoughts: bool) -> Iterator[dict[str, Any]]:
    """Yield the events of a streamed answer; the token usage is known at its end."""
    yield {"type": "message_start", "message": envelope(answer)}
    called = False
    for index, (block, deltas) in enumerate(growing(answer, thoughts)):
        called = called or block["type"] == "tool_use"
        yield {"type": "content_block_start", "index": index, "content_block": block}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": stop_reason(answer, called), "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": usage(answer.usage)}
    yield {"type": "message_stop"}


def pieces(messages: Iterable[dict[str, Any]], thoughts: bool) -> Iterator[tuple[str, Any]]:
    """Yield the pieces of an answer's blocks, with the block's type: texts, thoughts, and calls in Ollama's form."""
    for each in messages:
        if thoughts and each.get("thinking"):
            yield "thinking", each["thinking"]
        if each["content"]:
            yield "text", each["content"]
        for call in each.get("tool_calls") or ():
            yield "tool_use", call["function"]


def growing(messages: Iterable[dict[str, Any]], thoughts: bool) -> Iterator[tuple[Block, Iterable[Block]]]:
    """Yield each block of a stream in its initial form, and its deltas."""
    for kind, group in groupby(pieces(messages, thoughts), itemgetter(0)):
        if kind == "tool_use":
            for _, function in group:
                block = tool_use(function)
                whole = json.dumps(block["input"])
                yield {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": whole}]
        else:
            yield EMPTY[kind], texts(kind, (text for _, text in group))


def texts(kind: str, parts: Iterable[str]) -> Iterator[Block]:
    """Yield the deltas of a block of text or thoughts; clients expect a signature of the latter."""
    for part in parts:
        yield {"type": f"{kind}_delta", kind: part}
    if kind == "thinking":
        yield {"type": "signature_delta", "signature": ""}


def tool_use(function: dict[str, Any]) -> Block:
    """Return Ollama's tool call as a block."""
    return {"type": "tool_use", "id": new_id("toolu"), "name": function["name"], "input": function["arguments"]}


def envelope(answer: Generation) -> dict[str, Any]:
    """Return the fields of a message that are known before its first token."""
    return {
        "id": f"msg_{answer.caller.record.request_id}",
        "type": "message",
        "role": "assistant",
        "model": answer.gateway.settings.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage({}),
    }


def stop_reason(answer: Generation, called: bool) -> str:
    """Return why the answer ended. Ollama doesn't distinguish a match of stop_sequences from a natural end."""
    if called:
        return "tool_use"
    return "max_tokens" if answer.caller.record.finish_reason == "length" else "end_turn"


def usage(tokens: dict[str, int]) -> dict[str, int]:
    """Return the token usage; the tokens that were in the engine's cache aren't counted separately."""
    return {
        "input_tokens": tokens.get("prompt_tokens", 0),
        "output_tokens": tokens.get("completion_tokens", 0),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    }
