"""`POST /v1/chat/completions`, for OpenAI's own clients, whole or as a stream."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, jsonify

from service.dialects.described import COUNT, EVENTS, TEXT, Route, list_of, object_of
from service.dialects.errors import openai
from service.dialects.openai_chat_body import ChatBody
from service.errors import ServiceError
from service.fitting import joined
from service.generation import Generation
from service.http_request import caller, read_body
from service.keys import Keys
from service.models import Models
from service.parsing import parse
from service.streams import SSE, new_id

OPENAI_SSE = replace(SSE, end="data: [DONE]\n\n")
USAGE = object_of(prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT)
MESSAGE = object_of(role={"const": "assistant"}, content={"type": ["string", "null"]})
CHOICE = object_of(index=COUNT, message=MESSAGE, finish_reason={"enum": ["stop", "length", "tool_calls"]})
COMPLETION = object_of(
    id=TEXT, object={"const": "chat.completion"}, created=COUNT, model=TEXT, choices=list_of(CHOICE), usage=USAGE
)
ROUTES = (Route("POST", "/v1/chat/completions", "Go on with a conversation", COMPLETION, ChatBody, EVENTS),)


def chat_blueprint(models: Models, keys: Keys | None) -> Blueprint:
    """Return the route."""
    blueprint = Blueprint("chat", __name__)

    @blueprint.post("/v1/chat/completions")
    def chat() -> Response:
        who, question = caller(keys), parse(ChatBody, read_body()).question()
        answer = question.ask(models.find(question.model, who.key), who)
        if question.stream:
            return OPENAI_SSE.respond(answer, chunks(answer, question.stream_usage), broken)
        with answer:
            return jsonify(completion(answer))

    return blueprint


def broken(error: ServiceError) -> list[dict[str, Any]]:
    """Return the last objects of a stream that fails."""
    return [openai(error)]


def _envelope(answer: Generation, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{answer.caller.record.request_id}",
        "object": kind,
        "created": int(time.time()),
        "model": answer.gateway.settings.model,
    }


def tool_calls(calls: list[dict[str, Any]], start: int) -> list[dict[str, Any]]:
    """Return Ollama's tool calls as OpenAI's, numbered from `start`."""
    return [
        {
            "index": index,
            "id": new_id("call"),
            "type": "function",
            "function": {"name": call["function"]["name"], "arguments": json.dumps(call["function"]["arguments"])},
        }
        for index, call in enumerate(calls, start)
    ]


def completion(answer: Generation) -> dict[str, Any]:
    """Return the whole answer as one object."""
    messages = answer.whole()
    text, thoughts = joined(messages), joined(messages, "thinking")
    calls = tool_calls([call for message in messages for call in message.get("tool_calls", ())], 0)
    for call in calls:
        del call["index"]
    message = {
        "role": "assistant",
        "content": text or None if calls else text,
        **({"reasoning_content": thoughts} if thoughts else {}),
        **({"tool_calls": calls} if calls else {}),
    }
    reason = "tool_calls" if calls else answer.caller.record.finish_reason
    choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
    return {**_envelope(answer, "chat.completion"), "choices": [choice], "usage": openai_usage(answer)}


def chunks(answer: Generation, include_usage: bool) -> Iterator[dict[str, Any]]:
    """Yield the answer as chat.completion.chunk objects."""
    envelope = _envelope(answer, "chat.completion.chunk") | ({"usage": None} if include_usage else {})

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {**envelope, "choices": [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}]}

    yield chunk({"role": "assistant", "content": ""})
    called = 0
    for message in answer:
        if message.get("thinking"):
            yield chunk({"reasoning_content": message["thinking"]})
        if message["content"]:
            yield chunk({"content": message["content"]})
        if calls := tool_calls(message.get("tool_calls", []), called):
            called += len(calls)
            yield chunk({"tool_calls": calls})
    yield chunk({}, "tool_calls" if called else answer.caller.record.finish_reason)
    if include_usage:
        yield {**envelope, "choices": [], "usage": openai_usage(answer)}


def openai_usage(answer: Generation) -> dict[str, int]:
    """Return the token usage in OpenAI's form, with the total."""
    usage = answer.usage
    return {**usage, "total_tokens": sum(usage.values())}
