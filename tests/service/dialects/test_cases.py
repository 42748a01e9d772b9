"""What people's tools really send, and what is right to answer."""

import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.dialects.generate import GenerateBody
from service.dialects.ollama_chat import OllamaChatBody, OllamaGenerateBody
from service.dialects.ollama_embed import EmbedBody
from service.dialects.openai_chat_body import ChatBody
from service.dialects.openai_embeddings import EmbeddingsBody
from service.dialects.openai_responses_body import ResponsesBody
from service.parsing import Body
from testbed.stand_in import MODEL, StandIn
from tests.support.errors import error_of

HI: Any = {"role": "user", "content": "Hi"}
PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
ADD: Any = {"name": "add", "description": "adds", "parameters": PARAMETERS}
CALL: Any = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
EMAIL = r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"
DATE = r"^(?:(?:\d\d[2468][048])-02-29|\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])))$"


DECIMAL = r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"


def chat(client: FlaskClient, **body: Any) -> Any:
    return client.post("/v1/chat/completions", json={"model": MODEL, "messages": [HI], **body}, buffered=True)


def form(schema: Any) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "p", "schema": schema}}


def holding(**schema: Any) -> Any:
    return {"type": "object", "properties": {"e": schema}, "required": ["e"]}


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        (holding(type="string", format="email", pattern=EMAIL), {"e": "ada@example.com"}),
        (holding(type="string", format="date", pattern=DATE), {"e": "2026-12-26"}),
        ({"type": "string", "pattern": "[A-Z]{3}"}, "ABC"),
        ({"type": "string", "pattern": r"^\d+$"}, "12"),
        (holding(anyOf=[{"type": "number"}, {"type": "string", "pattern": DECIMAL}]), {"e": "1.5"}),
    ],
)
def test_schemas_of_everyday_clients_are_answered_in_patterns_that_the_engine_takes(
    client: FlaskClient, stand_in: StandIn, schema: Any, answer: Any
) -> None:
    stand_in.script = [json.dumps(answer)]
    assert chat(client, response_format=form(schema)).status_code == 200
    [asked] = stand_in.chats()
    sent = json.dumps(asked["format"])
    assert '"pattern"' in sent
    for hard in ("(?", "\\\\d", "."):
        assert hard not in sent


@pytest.mark.parametrize(
    ("schema", "unfit", "fit"),
    [
        ({"type": "string", "pattern": "^(?=.*x).*$"}, "a", "ax"),
        ({"type": "string", "pattern": "^(?i)abc$"}, "x", "ABC"),
        ({"type": "string", "maxLength": 100000}, "a" * 100_001, "a"),
        ({"type": "integer", "minimum": 1e30}, 5, 10**31),
    ],
)
def test_what_no_grammar_holds_is_checked_and_never_reaches_the_engine(
    client: FlaskClient, stand_in: StandIn, schema: Any, unfit: Any, fit: Any
) -> None:
    stand_in.script = [json.dumps(unfit), json.dumps(fit)]
    reply = chat(client, response_format=form(schema))
    assert json.loads(reply.json["choices"][0]["message"]["content"]) == fit
    assert [asked["format"] for asked in stand_in.chats()] == [{"type": schema["type"]}] * 2


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 1}, "minItems"),
        (holding(**{"$ref": "#/$defs/Nope"}), "properties.e.$ref"),
        ({"type": "strin"}, "type"),
    ],
)
def test_schemas_that_nothing_fits_name_the_keyword_and_never_reach_the_engine(
    client: FlaskClient, stand_in: StandIn, schema: Any, keyword: str
) -> None:
    reply = chat(client, response_format=form(schema))
    assert (reply.status_code, "Retry-After" in reply.headers) == (400, False)
    assert error_of(reply)["message"].startswith(f"response_format.json_schema.schema.{keyword}: ")
    assert not stand_in.chats()


@pytest.mark.parametrize(
    "body",
    [
        {"tools": [{"type": "function", "function": {**ADD, "strict": True}}]},
        {
            "messages": [
                HI,
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "c1", "name": "add", "content": "2"},
            ]
        },
        {"user": "u1"},
        {"store": False},
        {"metadata": {"task": "title"}},
        {"service_tier": "auto"},
        {"logprobs": False},
        {"logit_bias": {}},
        {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
        {"user": None, "tools": None, "seed": None, "metadata": None},
        {"messages": [HI, {"role": "assistant", "content": "Hello", "refusal": None}, HI]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "x"}}]}]},
        {"reasoning_effort": "low"},
        {"top_k": 40, "min_p": 0.05, "repeat_penalty": 1.1},
        {"ignore_eos": True, "n": 1, "parallel_tool_calls": True, "tool_choice": None, "max_tokens": 1_000_000},
        {"model": f"registry.ollama.ai/library/{MODEL}"},
        {"model": MODEL.upper()},
    ],
)
def test_what_changes_no_answer_is_accepted(client: FlaskClient, stand_in: StandIn, body: Any) -> None:
    assert chat(client, **body).status_code == 200
    [asked] = stand_in.chats()
    assert asked.keys() - {"tools"} == {
        *("model", "messages", "stream", "think", "truncate", "shift", "keep_alive", "options")
    }
    assert "strict" not in json.dumps(asked)


def test_reasoning_in_the_history_is_not_sent_to_the_model(client: FlaskClient, stand_in: StandIn) -> None:
    said = {"role": "assistant", "content": "Hello", "reasoning_content": "They greet."}
    assert chat(client, messages=[HI, said, HI]).status_code == 200
    assert stand_in.chats()[0]["messages"][1] == {"role": "assistant", "content": "Hello"}


def test_a_call_without_arguments_has_none(client: FlaskClient, stand_in: StandIn) -> None:
    call = {**CALL, "function": {"name": "add", "arguments": ""}}
    assert chat(client, messages=[HI, {"role": "assistant", "tool_calls": [call]}]).status_code == 200
    [sent] = stand_in.chats()[0]["messages"][1]["tool_calls"]
    assert sent["function"]["arguments"] == {}


@pytest.mark.parametrize("url", [f"data:;base64,{PNG}", f"data:image/png;base64,{PNG[:60]}\r\n{PNG[60:]}"])
def test_an_image_is_what_its_bytes_say(client: FlaskClient, url: str) -> None:
    parts = [{"type": "text", "text": "what"}, {"type": "image_url", "image_url": {"url": url}}]
    assert chat(client, messages=[{"role": "user", "content": parts}]).status_code == 200


def test_a_data_url_is_an_image_at_generate_too(client: FlaskClient) -> None:
    body = {"prompt": "what", "images": [f"data:image/png;base64,{PNG}"]}
    assert client.post("/generate", json=body).status_code == 200


def test_an_image_cut_short_is_the_callers_mistake(client: FlaskClient, stand_in: StandIn) -> None:
    reply = client.post("/generate", json={"prompt": "what", "images": [PNG[:56]]})
    assert (reply.status_code, "Retry-After" in reply.headers) == (400, False)
    assert error_of(reply)["message"].startswith("images[0]: is a broken image: ")
    assert not stand_in.chats()


TOOL = {"type": "function", "function": {"name": "add", "description": "x" * 20_000}}
LONG = [
    ("messages[0].content", {"messages": [{"role": "user", "content": "x" * 20_000}]}),
    ("tools[0].function.description", {"tools": [TOOL]}),
    ("stop", {"stop": ["x" * 1000] * 4, "messages": [{"role": "user", "content": "x" * 3000}] * 5}),
    ("response_format.json_schema.schema", {"response_format": form({"enum": ["x" * 20_000]})}),
    (
        "messages[0].tool_calls[0].function.arguments",
        {
            "messages": [
                {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "x" * 20_000}}]}
            ]
        },
    ),
]


@pytest.mark.parametrize(("field", "body"), LONG)
def test_one_budget_counts_everything_that_is_sent_on(
    client: FlaskClient, stand_in: StandIn, field: str, body: Any
) -> None:
    reply = chat(client, **body)
    assert (reply.status_code, error_of(reply)["code"]) == (400, "context_length_exceeded")
    assert error_of(reply)["param"] == field
    assert "at most 16384 are allowed" in error_of(reply)["message"]
    assert not stand_in.chats()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("[" * 15_000, "more than 10000 values"),
        ('{"a": NaN}', "is not valid JSON"),
        ('{"a": 1, "a": 2}', "the same name twice"),
        ("{", "is not valid JSON"),
        ("[]", "must be a JSON object"),
    ],
)
def test_arguments_are_read_as_every_other_json(client: FlaskClient, arguments: str, complaint: str) -> None:
    call = {**CALL, "function": {"name": "add", "arguments": arguments}}
    reply = chat(client, messages=[HI, {"role": "assistant", "tool_calls": [call]}])
    assert reply.status_code == 400
    assert error_of(reply)["message"].startswith("messages[1].tool_calls[0].function.arguments: ")
    assert complaint in error_of(reply)["message"]


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"type": "strin"}, "type"),
        ({"type": "object", "properties": {"a": 5}}, "properties.a"),
        ({"type": "object", "properties": {"a": {"description": 5}}}, "properties.a.description"),
        ({"type": "object", "required": [5]}, "required"),
    ],
)
def test_a_tool_that_the_engine_cannot_read_names_the_keyword(
    client: FlaskClient, stand_in: StandIn, parameters: Any, field: str
) -> None:
    reply = chat(client, tools=[{"type": "function", "function": {**ADD, "parameters": parameters}}])
    assert reply.status_code == 400
    assert error_of(reply)["message"].startswith(f"tools[0].function.parameters.{field}: ")
    assert not stand_in.chats()


def test_what_changes_no_answer_is_forgotten_before_the_request_waits() -> None:
    said = [{"role": "user", "content": "Hi"}]
    schema = {"format": {"type": "text", "schema": {"a": PNG}}}
    bodies: list[Body] = [
        OllamaChatBody.model_validate({"model": MODEL, "messages": said, "metadata": PNG}),
        OllamaGenerateBody.model_validate({"model": MODEL, "prompt": "Hi", "top_logprobs": PNG}),
        EmbedBody.model_validate({"model": MODEL, "input": "Hi", "truncate": PNG}),
        EmbeddingsBody.model_validate({"model": MODEL, "input": "Hi", "user": PNG}),
        ResponsesBody.model_validate({"model": MODEL, "input": "Hi", "text": schema}),
    ]
    for body in bodies:
        assert PNG not in repr(body), type(body)


def test_what_was_sent_of_images_is_forgotten_before_the_request_waits(app: Flask) -> None:
    gateway = app.extensions["sluice"].default
    part = {"type": "image_url", "image_url": {"url": f"data:;base64,{PNG}"}}
    chatting = {"model": MODEL, "messages": [{"role": "user", "content": [part]}]}
    for body in (GenerateBody(prompt="what", images=[PNG]), ChatBody.model_validate(chatting)):
        question = body.question()
        question.for_ollama(gateway)
        assert PNG not in repr(question)
