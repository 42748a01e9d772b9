"""`POST /v1/chat/completions`, for OpenAI's own clients, whole or as a stream."""

import json
import time
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, jsonify

from service.chat_body import ChatBody
from service.gateway import Answer, Gateway
from service.keys import Keys
from service.parsing import parse
from service.routing import caller, read_body, sse, stream


def chat_blueprint(gateway: Gateway, keys: Keys | None) -> Blueprint:
    """Return the route."""
    blueprint = Blueprint("chat", __name__)

    @blueprint.post("/v1/chat/completions")
    def chat() -> Response:
        who = caller(keys)
        body = parse(ChatBody, read_body())
        answer = gateway.generate(who, *body.for_ollama(gateway))
        if body.stream:
            usage = body.stream_options is not None and body.stream_options.include_usage
            return stream(answer, chunks(answer, usage), sse, end="data: [DONE]\n\n")
        with answer:
            return jsonify(completion(answer))

    return blueprint


def _envelope(answer: Answer, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{answer.caller.record.request_id}",
        "object": kind,
        "created": int(time.time()),
        "model": answer.gateway.settings.model,
    }


def _tool_calls(calls: list[dict[str, Any]], start: int) -> list[dict[str, Any]]:
    """Return Ollama's tool calls as OpenAI's, numbered from `start`."""
    return [
        {
            "index": index,
            "id": call.get("id") or f"call_{index}",
            "type": "function",
            "function": {"name": call["function"]["name"], "arguments": json.dumps(call["function"]["arguments"])},
        }
        for index, call in enumerate(calls, start)
    ]


def completion(answer: Answer) -> dict[str, Any]:
    """Return the whole answer as one object."""
    text, thoughts, calls = "", "", list[dict[str, Any]]()
    for message in answer.whole():
        text += message["content"]
        thoughts += message.get("thinking", "")
        calls += _tool_calls(message.get("tool_calls", []), len(calls))
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


def chunks(answer: Answer, include_usage: bool) -> Iterator[dict[str, Any]]:
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
        if calls := _tool_calls(message.get("tool_calls", []), called):
            called += len(calls)
            yield chunk({"tool_calls": calls})
    yield chunk({}, "tool_calls" if called else answer.caller.record.finish_reason)
    if include_usage:
        yield {**envelope, "choices": [], "usage": openai_usage(answer)}


def openai_usage(answer: Answer) -> dict[str, int]:
    """Return the tokens used, with their sum as OpenAI has it."""
    usage = answer.usage
    return {**usage, "total_tokens": sum(usage.values())}
