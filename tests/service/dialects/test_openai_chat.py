import json
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from flask import Flask
from flask.testing import FlaskClient

from testbed.gateway import Served
from testbed.pictures import png, taken_image
from testbed.stand_in import MODEL, StandIn
from tests.support.errors import error_of

HI: Any = [{"role": "user", "content": "Hi"}]
TOOL: Any = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
CALL = {"function": {"name": "add", "arguments": {"a": 1}}}


def post(client: FlaskClient, **body: Any) -> Any:
    return client.post("/v1/chat/completions", json={"model": MODEL, "messages": HI, **body}, buffered=True)


def test_a_part_of_an_unknown_kind_is_told_the_known_ones(client: FlaskClient) -> None:
    reply = post(client, messages=[{"role": "user", "content": [{"type": "video", "video": "x"}]}])
    assert error_of(reply)["message"] == "messages[0].content[0]: 'type' must be 'text', 'image_url'"


def test_every_supported_field_reaches_ollama(client: FlaskClient, stand_in: StandIn) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What "}, {"type": "text", "text": "is it?"}]},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png(3, 3)}"}}],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    ]
    sampling = {"temperature": 0.5, "top_p": 0.9, "frequency_penalty": 1, "presence_penalty": -1, "seed": 3}
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
    reply = post(
        client,
        messages=messages,
        **sampling,
        stop="x",
        max_completion_tokens=9,
        n=1,
        response_format=form,
        tools=[TOOL],
        tool_choice="auto",
    )
    assert reply.status_code == 200
    [chat] = stand_in.chats()
    assert taken_image(chat["messages"][2]).size == (32, 32)
    assert chat["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is it?"},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "function": CALL["function"]}]},
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
    ]
    assert chat["options"] == {"num_ctx": 2048, "num_thread": 2, "num_predict": 9, **sampling, "stop": ["x"]}
    assert chat["format"] == {**schema, "required": [], "additionalProperties": False}
    assert chat["tools"] == [TOOL]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"messages": []}, "messages: must have at least 1 item, not 0"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages[0].content: must not be empty or blank"),
        ({"messages": [{"role": "user"}]}, "messages[0].content: must not be empty or blank"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role: "),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content: must be a text or a list"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text: is required",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]: "),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a/b.png"}}]}
                ]
            },
            "messages[0].content[0].image_url.url: must be a data URL",
        ),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "[]"}}],
                    },
                    *HI,
                ]
            },
            "messages[0].tool_calls[0].function.arguments: must be a JSON object",
        ),
        ({"logit_bias": {"5": 1}}, "logit_bias: must be empty"),
        ({"best_of": 2}, "best_of: is not supported (fields: model, stream, "),
        ({"logprobs": True}, "logprobs: must be false"),
        ({"n": 2}, "n: must be 1"),
        (
            {"tool_choice": "sometimes", "tools": [TOOL]},
            "tool_choice: must be 'auto', 'none' or 'required', or an object ",
        ),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema: is required"),
        ({"stream_options": {"include_all": True}}, "stream_options.include_all: is not supported"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    client: FlaskClient, stand_in: StandIn, body: Any, complaint: str
) -> None:
    reply = post(client, **body)
    assert reply.status_code == 400
    assert complaint in error_of(reply)["message"]
    assert not stand_in.chats()


def test_tools_are_refused_where_the_model_has_none(app: Flask, client: FlaskClient) -> None:
    app.extensions["sluice"].default.watch.capabilities = frozenset({"completion"})
    reply = post(client, tools=[TOOL])
    assert reply.status_code == 400
    assert error_of(reply)["message"].startswith(f"tools: {MODEL} does not support tools")


def test_json_mode_reaches_ollama(client: FlaskClient, stand_in: StandIn) -> None:
    post(client, response_format={"type": "json_object"})
    post(client, response_format={"type": "text"})
    assert [chat.get("format") for chat in stand_in.chats()] == ["json", None]


@pytest.fixture
def official(shared: Served, engine: StandIn) -> Iterator[openai.OpenAI]:
    engine.renew()
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_the_official_client_works_unchanged(official: openai.OpenAI, engine: StandIn) -> None:
    whole = official.chat.completions.create(model=MODEL, messages=HI)
    assert whole.choices[0].message.content == "Hello, world"
    assert (whole.choices[0].finish_reason, whole.usage.total_tokens) == ("stop", 10)
    stream = official.chat.completions.create(
        model=MODEL, messages=HI, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello, world"
    assert (chunks[-1].choices[0].finish_reason, last.choices, last.usage.total_tokens) == ("stop", [], 10)
    assert [model.id for model in official.models.list()] == [MODEL]
    assert official.embeddings.create(model=MODEL, input=["a", "b"]).data[1].embedding == pytest.approx([0.6, 0.8])


def test_the_official_client_sees_tool_calls(official: openai.OpenAI, engine: StandIn) -> None:
    engine.tokens, engine.message = [""], {"tool_calls": [CALL]}
    whole = official.chat.completions.create(model=MODEL, messages=HI, tools=[TOOL])
    [choice] = whole.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert (
        choice.message.tool_calls[0].function.name,
        json.loads(choice.message.tool_calls[0].function.arguments),
    ) == ("add", {"a": 1})
    stream = list(official.chat.completions.create(model=MODEL, messages=HI, tools=[TOOL], stream=True))
    assert stream[1].choices[0].delta.tool_calls[0].function.name == "add"
    assert stream[-1].choices[0].finish_reason == "tool_calls"


def test_the_official_client_sees_errors_by_their_status(official: openai.OpenAI, engine: StandIn) -> None:
    with pytest.raises(openai.NotFoundError, match="serves stand-in only"):
        official.chat.completions.create(model="gpt-5", messages=HI)
    engine.error_at = 1
    with pytest.raises(openai.APIError, match="the model server failed"):
        list(official.chat.completions.create(model=MODEL, messages=HI, stream=True))


def test_embeddings_in_both_encodings(client: FlaskClient, stand_in: StandIn) -> None:
    reply = client.post("/v1/embeddings", json={"model": MODEL, "input": "a", "dimensions": 2})
    assert reply.json["data"] == [{"object": "embedding", "index": 0, "embedding": [0.6, 0.8]}]
    assert reply.json["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    path, body = stand_in.requests[-1]
    assert (path, body["input"], body["dimensions"], body["truncate"]) == ("/api/embed", ["a"], 2, False)
    reply = client.post("/v1/embeddings", json={"model": MODEL, "input": "a", "encoding_format": "base64"})
    assert reply.json["data"][0]["embedding"] == "mpkZP83MTD8="


@pytest.mark.parametrize(
    ("effort", "think"),
    [(None, False), ("none", False), ("minimal", "low"), ("low", "low"), ("medium", "medium"), ("high", "high")],
)
def test_a_model_thinks_as_much_as_it_is_asked_to(
    app: Flask, client: FlaskClient, stand_in: StandIn, effort: str | None, think: Any
) -> None:
    app.extensions["sluice"].default.watch.capabilities = frozenset({"completion", "thinking"})
    assert post(client, **({"reasoning_effort": effort} if effort else {})).status_code == 200
    assert stand_in.chats()[0]["think"] == think


def test_thoughts_are_never_in_the_content(app: Flask, client: FlaskClient, stand_in: StandIn) -> None:
    app.extensions["sluice"].default.watch.capabilities = frozenset({"completion", "thinking"})
    stand_in.thoughts = ["Let me", " see."]
    message = post(client, reasoning_effort="low").json["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Hello, world", "Let me see.")
    events = post(client, reasoning_effort="low", stream=True).text.split("\n\n")
    deltas = [json.loads(event.removeprefix("data: "))["choices"][0]["delta"] for event in events[:-2]]
    assert [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta] == stand_in.thoughts
    assert "".join(delta.get("content", "") for delta in deltas) == "Hello, world"
    assert "reasoning_content" not in post(client).json["choices"][0]["message"]


def test_a_model_that_cannot_think_answers_at_once(client: FlaskClient, stand_in: StandIn) -> None:
    assert post(client, reasoning_effort="low").status_code == 200
    assert stand_in.chats()[0]["think"] is False


def test_a_system_message_has_a_place_in_every_template(app: Flask, client: FlaskClient, stand_in: StandIn) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Why?"},
    ]
    post(client, messages=messages)
    app.extensions["sluice"].default.watch.system_role = False
    post(client, messages=messages)
    kept, moved = (chat["messages"] for chat in stand_in.chats())
    assert kept == messages
    assert moved == [{"role": "user", "content": "Be brief.\n\nHi"}, *messages[2:]]


@pytest.mark.parametrize("known", [frozenset({"completion"}), frozenset()])
def test_a_model_without_embeddings_says_so(
    app: Flask, client: FlaskClient, stand_in: StandIn, known: frozenset[str]
) -> None:
    app.extensions["sluice"].default.watch.capabilities = known
    stand_in.error = (501, "This server does not support embeddings. Start it with `--embeddings`")
    reply = client.post("/v1/embeddings", json={"model": MODEL, "input": "x"})
    assert reply.status_code == 400
    assert "can't embed" in error_of(reply)["message"]
    # Ollama would load the model anew for that, so it isn't asked where the answer is known.
    assert ("/api/embed" in [path for path, _ in stand_in.requests]) == (not known)


def test_a_model_that_only_embeds_says_so(app: Flask, client: FlaskClient, stand_in: StandIn) -> None:
    app.extensions["sluice"].default.watch.capabilities = frozenset({"embedding"})
    reply = post(client)
    assert (reply.status_code, error_of(reply)["code"]) == (400, "invalid_request")
    assert "can't chat" in error_of(reply)["message"]
    assert not stand_in.chats()
    assert client.post("/v1/embeddings", json={"model": MODEL, "input": "x"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {"stream_options": {"a": 1, "b": 2}},
            "stream_options.a: is not supported (fields: include_usage, include_obfuscation); "
            "stream_options.b: is not supported",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "foo": 1}]}]},
            "messages[0].content[0].foo: is not supported (fields: type, text, cache_control)",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "foo": 1}}]},
            "tools[0].function.foo: is not supported (fields: name, description, parameters, strict)",
        ),
        (
            {"response_format": {"type": "text", "foo": 1}},
            "response_format.foo: is not supported (fields: type, json_schema)",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}, "foo": 1}}},
            "response_format.json_schema.foo: is not supported (fields: name, schema, description, strict)",
        ),
        ({"max_token": 5}, "max_token: is not supported (did you mean max_tokens?)"),
        ({"stop": 5}, "stop: must be a text or a list"),
        ({"tools": [{"type": "web_search", "filters": {}}]}, "tools[0].type: must be 'function'"),
        ({"tools": [{"function": {"name": "f"}}]}, "tools[0].type: is required"),
    ],
)
def test_an_error_tells_once_what_is_allowed_at_its_own_field(client: FlaskClient, body: Any, message: str) -> None:
    error = error_of(post(client, **body))
    assert (error["message"], error["hint"]) == (message, None)
    assert error["param"] == message.partition(":")[0]


def test_many_unknown_fields_cost_little(client: FlaskClient) -> None:
    """Each is compared with the known ones only if the error names it."""
    started = time.process_time()
    reply = post(client, **{f"{i:05}" + "max_tokens" * 5: 1 for i in range(5_000)})
    assert (reply.status_code, error_of(reply)["message"].count("is not supported")) == (400, 5)
    assert time.process_time() - started < 3  # 0.1 s on a quiet machine
