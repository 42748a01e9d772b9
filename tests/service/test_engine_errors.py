"""What the engine says it can not do, in the words that callers get."""

import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.engine_errors import EngineDied, answered_error, reported_error
from service.errors import Saturated, ServiceError
from testbed.pictures import png
from testbed.stand_in import MODEL, StandIn
from tests.support.errors import error_of
from tests.support.gateways import generate


def nested(message: str) -> str:
    """Return an answer of llama-server's as Ollama passes it on: all of its JSON, as a text."""
    return json.dumps({"error": {"code": 400, "message": message, "type": "invalid_request_error"}})


@pytest.mark.parametrize(
    ("status", "text", "field"),
    [
        (500, 'invalid format: "x"; expected "json" or a valid JSON Schema object', "format"),
        (400, nested("Failed to initialize samplers: failed to parse grammar"), "format"),
        (
            400,
            nested(r'Field \'json_schema\': JSON schema conversion failed:\nUnrecognized schema: {"type":"x"}'),
            "format",
        ),
        (400, nested("Multimodal data provided, but model does not support multimodal requests."), "images"),
        (400, nested("Failed to load image or audio file"), "images"),
        (501, "This server does not support embeddings. Start it with `--embeddings`", "model"),
        (400, '"minilm" does not support chat', "model"),
        (400, "registry.ollama.ai/library/x:latest does not support tools", "tools"),
        (400, '"x" does not support thinking', "think"),
        (500, nested("Conversation roles must alternate user/assistant/user/assistant/..."), "prompt"),
        (500, nested("System message must be at the beginning."), "prompt"),
    ],
)
def test_what_the_engine_cannot_follow_is_the_callers_to_change(
    app: Flask, client: FlaskClient, stand_in: StandIn, status: int, text: str, field: str
) -> None:
    stand_in.error = (status, text)
    reply = generate(client)
    assert (reply.status_code, error_of(reply)["code"]) == (400, "invalid_request")
    assert error_of(reply)["message"].startswith(f"{field}: ")
    assert "Retry-After" not in reply.headers
    assert len(stand_in.chats()) == 1


GRAMMAR = nested("Failed to initialize samplers: failed to parse grammar")
ROLES = nested("Conversation roles must alternate user/assistant/user/assistant/...")
IMAGE = nested("Failed to load image or audio file")
A: Any = {"type": "object", "properties": {"a": {"type": "string"}}}
HI: Any = [{"role": "user", "content": "Hi"}]
TOOL: Any = {"type": "function", "function": {"name": "f", "parameters": A}}


@pytest.mark.parametrize(
    ("path", "body", "error", "field"),
    [
        ("/api/chat", {"messages": HI, "format": A}, GRAMMAR, "format"),
        ("/api/generate", {"prompt": "Hi", "format": "json"}, GRAMMAR, "format"),
        ("/api/generate", {"prompt": "Hi", "images": [png(3, 3)]}, IMAGE, "images[0]"),
        ("/v1/completions", {"prompt": "Hi"}, ROLES, "prompt"),
        (
            "/v1/chat/completions",
            {"messages": HI, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": A}}},
            *(GRAMMAR, "response_format.json_schema.schema"),
        ),
        (
            "/v1/chat/completions",
            {"messages": HI, "response_format": {"type": "json_object"}},
            *(GRAMMAR, "response_format"),
        ),
        (
            "/v1/chat/completions",
            {"messages": HI, "tools": [TOOL], "tool_choice": "required"},
            *(GRAMMAR, "tools[0].function.parameters"),
        ),
        ("/v1/chat/completions", {"messages": HI}, ROLES, "messages"),
        (
            "/v1/responses",
            {"input": "Hi", "text": {"format": {"type": "json_schema", "name": "a", "schema": A}}},
            *(GRAMMAR, "text.format.schema"),
        ),
        ("/v1/responses", {"input": "Hi"}, ROLES, "input"),
        (
            "/v1/messages",
            {"messages": HI, "max_tokens": 9, "output_config": {"format": {"type": "json_schema", "schema": A}}},
            *(GRAMMAR, "output_config.format.schema"),
        ),
    ],
)
def test_the_field_that_the_engine_cannot_follow_has_the_name_that_it_has_in_the_request(
    client: FlaskClient, stand_in: StandIn, path: str, body: Any, error: str, field: str
) -> None:
    stand_in.error = (400, error)
    reply: Any = client.post(path, json={"model": MODEL, **body}, buffered=True)
    told = reply.json["error"]
    assert reply.status_code == 400
    assert (told if isinstance(told, str) else told["message"]).startswith(f"{field}: the model")


def test_a_prompt_that_is_too_long_is_told_both_numbers(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.error = (400, nested("request (3163 tokens) exceeds the available context size (2048 tokens), try more"))
    reply = generate(client)
    assert (reply.status_code, error_of(reply)["code"]) == (413, "prompt_too_long")
    assert error_of(reply)["message"] == "the prompt has 3163 tokens, more than the model's context of 2048"


def test_an_error_in_our_own_form_is_passed_on_as_it_is(app: Flask, client: FlaskClient, stand_in: StandIn) -> None:
    ours = {"code": "saturated", "message": "every slot is busy", "hint": "see Retry-After"}
    stand_in.error = (503, ours)
    reply = generate(client)
    assert (reply.status_code, error_of(reply)) == (503, ours)
    assert len(stand_in.chats()) == 1


def test_an_error_in_our_own_form_ends_a_stream(app: Flask, client: FlaskClient, stand_in: StandIn) -> None:
    ours = {"code": "generation_timeout", "message": "the model did not finish in time", "hint": None}
    stand_in.error_at, stand_in.error_line = 1, ours
    last = json.loads(generate(client, stream=True).text.splitlines()[-1])
    assert last == {"error": ours}


def test_an_error_keeps_its_kind_its_status_and_its_time() -> None:
    body = b'{"error": {"code": "saturated", "message": "m", "hint": null}}'
    error = answered_error(503, body, "7")
    assert isinstance(error, Saturated)
    assert (error.status, error.retry_after, error.message, error.hint) == (503, 7, "m", None)
    assert error.headers == {"Retry-After": "7"}
    unknown = reported_error(418, {"code": "teapot", "message": "short and stout"})
    assert (type(unknown), unknown.status, unknown.code) == (ServiceError, 418, "teapot")
    told = reported_error(500, "model runner has unexpectedly stopped")
    assert isinstance(told, EngineDied)
    assert told.told
