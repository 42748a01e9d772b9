"""Requests as Anthropic's clients write them, and their answers taken apart."""

import json
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from testbed.pictures import png
from testbed.stand_in import MODEL

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
HI: Any = {"role": "user", "content": "Hi"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOL: Any = {"name": "add", "description": "adds", "input_schema": SCHEMA}
CALL = {"function": {"name": "add", "arguments": {"a": 1}}}
CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
IMAGE: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png(3, 3)}}
OPTIONS = {"num_ctx": 2048, "num_thread": 2}


def post(client: FlaskClient, path: str = MESSAGES, **body: Any) -> Any:
    fixed = {"model": MODEL, "messages": [HI], **({"max_tokens": 9} if path == MESSAGES else {})}
    return client.post(path, json={**fixed, **body}, buffered=True)


def user(*blocks: Any) -> Any:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> Any:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str, **more: Any) -> Any:
    return {"type": "text", "text": words, **more}


def use(call_id: str = "toolu_1", **more: Any) -> Any:
    return {"type": "tool_use", "id": call_id, "name": "add", "input": {"a": 1}, **more}


def result(call_id: str = "toolu_1", **more: Any) -> Any:
    return {"type": "tool_result", "tool_use_id": call_id, **more}


def change(kind: str) -> Any:
    return {"role": "system", "content": [{"type": kind, "tool": {"type": "tool_reference", "name": "add"}}]}


def error_of(reply: Any) -> Any:
    """Return the error after a check of its form."""
    body = reply.json
    assert (set(body), body["type"]) == ({"type", "error", "request_id"}, "error")
    assert body["request_id"] == reply.headers["Request-Id"] == reply.headers["X-Request-Id"]
    assert set(body["error"]) == {"type", "message"}
    return body["error"]


def events_of(reply: Any) -> list[Any]:
    """Return the events of a stream, whose names are their types."""
    events = []
    for event in reply.text.removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def can(app: Flask, *capabilities: str) -> None:
    app.extensions["sluice"].default.watch.capabilities = frozenset({"completion", *capabilities})
