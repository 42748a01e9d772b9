"""Anthropic's fields: what reaches Ollama, what is accepted, and what is refused."""

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.errors import PromptTooLong
from testbed.stand_in import MODEL, StandIn
from tests.support.anthropic_requests import (
    CACHED,
    COUNT,
    HI,
    IMAGE,
    MESSAGES,
    OPTIONS,
    SCHEMA,
    TOOL,
    assistant,
    can,
    change,
    error_of,
    post,
    result,
    text,
    use,
    user,
)


def test_every_supported_field_reaches_ollama(client: FlaskClient, stand_in: StandIn) -> None:
    reply = post(
        client,
        system=[text("Be", **CACHED), text(" brief.")],
        messages=[HI],
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        stop_sequences=["x"],
        tools=[{**TOOL, "type": "custom", **CACHED}],
        tool_choice={"type": "auto"},
        output_config={"format": {"type": "json_schema", "schema": SCHEMA}},
    )
    assert reply.status_code == 200
    [chat] = stand_in.chats()
    assert chat["messages"] == [{"role": "system", "content": "Be brief."}, HI]
    sampling = {"temperature": 0.5, "top_p": 0.9, "top_k": 3, "stop": ["x"]}
    assert chat["options"] == {**OPTIONS, "num_predict": 9, **sampling}
    assert chat["tools"] == [
        {"type": "function", "function": {"name": "add", "description": "adds", "parameters": SCHEMA}}
    ]
    assert chat["format"]["properties"] == SCHEMA["properties"]


def test_what_claude_code_sends_is_answered(client: FlaskClient, stand_in: StandIn) -> None:
    reply = client.post(
        f"{MESSAGES}?beta=true",
        buffered=True,
        headers={"anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219,effort-2025-11-24"},
        json={
            "model": MODEL,
            "max_tokens": 32_000,
            "system": [text("You are an agent.", **CACHED), text("\nHelp.", **CACHED)],
            "messages": [user(text("<system-reminder>"), text("Hi")), {"role": "system", "content": [text("Now.")]}],
            "tools": [TOOL, {"name": "Later", "description": "", "input_schema": {}, "defer_loading": True}],
            "metadata": {"user_id": "{}"},
            "thinking": {"type": "adaptive", "display": "omitted"},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            "output_config": {"effort": "high"},
            "stream": True,
        },
    )
    assert reply.status_code == 200
    [chat] = stand_in.chats()
    assert [turn["content"] for turn in chat["messages"]] == ["You are an agent.\nHelp.", "<system-reminder>Hi", "Now."]
    assert [tool["function"]["name"] for tool in chat["tools"]] == ["add"]


@pytest.mark.parametrize(
    "body",
    [
        CACHED,
        {"metadata": {"user_id": "u"}, "service_tier": "auto", "speed": "fast", "inference_geo": "eu"},
        {"diagnostics": {"previous_message_id": "msg_1"}, "fallbacks": "default"},
        {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
        {"system": None, "tools": None, "thinking": None, "container": None, "stop_sequences": []},
        {"output_config": {"effort": "high"}},
        {"tools": [], "tool_choice": {"type": "none"}},
        {"messages": [user(text("Hi", citations=None, **CACHED))]},
        {"model": MODEL.upper()},
    ],
)
def test_what_changes_no_answer_is_accepted(client: FlaskClient, stand_in: StandIn, body: Any) -> None:
    assert post(client, **body).status_code == 200
    [asked] = stand_in.chats()
    assert asked["messages"] == [HI]
    assert asked.keys() == {*("model", "messages", "stream", "think", "truncate", "shift", "keep_alive", "options")}


FIND = {"type": "tool_reference", "tool_name": "add"}


@pytest.mark.parametrize(
    ("deferred", "said", "there"),
    [
        (False, [], True),
        (True, [], False),
        (True, [user(result(content=[FIND]))], True),
        (True, [change("tool_addition")], True),
        (False, [change("tool_removal")], False),
        (True, [user(result(content=[FIND])), change("tool_removal")], False),
        (False, [change("tool_removal"), change("tool_addition")], True),
    ],
)
def test_a_tool_is_there_once_the_conversation_says_so(
    client: FlaskClient, stand_in: StandIn, deferred: bool, said: Any, there: bool
) -> None:
    messages = [HI, assistant(use(name="search")), *said, HI]
    assert post(client, tools=[{**TOOL, "defer_loading": deferred}], messages=messages).status_code == 200
    [chat] = stand_in.chats()
    assert ("tools" in chat) == there
    found = [turn["content"] for turn in chat["messages"] if turn["role"] == "tool"]
    assert found == ["The tool add can be called now.\n" for message in said if message["role"] == "user"]
    assert not any(turn["role"] == "system" for turn in chat["messages"])


SERVER_TOOL = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"max_tokens": None}, "max_tokens: is required"),
        ({"max_tokens": 0}, "max_tokens: "),
        ({"messages": []}, "messages: "),
        ({"messages": [user(text(" "))]}, "messages[0].content: must not be empty or blank"),
        ({"messages": [{**HI, "foo": 1}]}, "messages[0].foo: is not supported (fields: role, content)"),
        ({"messages": [[]]}, "messages[0]: must be a JSON object"),
        ({"system": 5}, "system: must be a text or a list"),
        ({"max_token": 5}, "max_token: is not supported (did you mean max_tokens?)"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0]: 'role' must be 'user', "),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content: "),
        ({"messages": [user(text("x", size=1))]}, "messages[0].content[0].size: is not supported"),
        ({"messages": [user({"type": "text"})]}, "messages[0].content[0].text: is required"),
        ({"messages": [user(use())]}, "messages[0].content[0]: 'type' must be 'text', 'image', "),
        ({"messages": [HI, assistant(result())]}, "messages[1].content[0]: 'type' must be 'text', 'tool_use', "),
        ({"messages": [HI, assistant({"type": "server_tool_use"})]}, "messages[1].content[0]: 'type' must be "),
        (
            {"messages": [user({"type": "image", "source": {"type": "url", "url": "http://a/b.png"}})]},
            "messages[0].content[0].source: must be of type base64; an address or a file is never fetched",
        ),
        (
            {"messages": [user({"type": "document", "source": {"type": "base64", "data": "x"}})]},
            "messages[0].content[0].source: must be plain text",
        ),
        (
            {"messages": [user(text("x")), assistant(use(input=5))]},
            "messages[1].content[0].input: must be a JSON object",
        ),
        ({"messages": [user(result(content=[use()]))]}, "messages[0].content[0].content[0]: 'type' must be "),
        ({"system": [IMAGE]}, "system[0].type: "),
        ({"tools": [SERVER_TOOL]}, "tools[0]: must be of type custom, or of none"),
        (
            {"messages": [HI, {"role": "system", "content": [{"type": "tool_addition", "tool": {"type": "x"}}]}]},
            "messages[1].content[0].tool.type: ",
        ),
        ({"tools": [{**TOOL, "allowed_callers": ["code_execution_20250825"]}]}, "tools[0].allowed_callers[0]: "),
        ({"tools": [{**TOOL, "input_schema": {"type": "strin"}}]}, "tools[0].input_schema.type: must be one of "),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name: is required"),
        ({"temperature": 1.5}, "temperature: "),
        ({"thinking": {"type": "always"}}, "thinking.type: "),
        ({"output_config": {"task_budget": {"type": "tokens"}}}, "output_config.task_budget: is not supported"),
        ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, "context_management.edits[0].type: "),
        ({"container": "c"}, "container: is not supported"),
        ({"mcp_servers": [{}]}, "mcp_servers: is not supported"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    client: FlaskClient, stand_in: StandIn, body: Any, complaint: str
) -> None:
    reply = post(client, **body)
    assert (reply.status_code, error_of(reply)["type"]) == (400, "invalid_request_error")
    assert error_of(reply)["message"].startswith(complaint)
    assert not stand_in.chats()


LONG: Any = {"role": "assistant", "content": "x" * 3000}


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("messages[0].content", {"messages": [{"role": "user", "content": "x" * 20_000}]}),
        ("messages[0].content[0].content", {"messages": [user(result(content="x" * 20_000))]}),
        ("messages[1].content[0].input", {"messages": [HI, assistant(use(input={"a": "x" * 20_000}))]}),
        ("system", {"system": "x" * 20_000}),
        ("tools[0].input_schema", {"tools": [{**TOOL, "input_schema": {"title": "x" * 20_000}}]}),
        ("stop_sequences", {"stop_sequences": ["x" * 1000] * 4, "messages": [*[LONG, HI] * 5, HI]}),
    ],
)
def test_agents_know_by_the_words_that_the_conversation_is_too_long(
    client: FlaskClient, stand_in: StandIn, field: str, body: Any
) -> None:
    reply = post(client, **body)
    assert (reply.status_code, error_of(reply)["type"]) == (400, "invalid_request_error")
    assert error_of(reply)["message"].startswith(f"prompt is too long: {field}: ")
    assert not stand_in.chats()


def test_a_prompt_over_the_models_context_is_told_in_tokens(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.error = (400, "request (3000 tokens) exceeds the available context size (2048 tokens)")
    for path in (MESSAGES, COUNT):
        reply = post(client, path)
        assert reply.status_code == 400
        assert error_of(reply)["message"] == "prompt is too long: 3000 tokens > 2048 maximum"
    assert PromptTooLong("messages: 5 characters").tokens is None


@pytest.mark.parametrize(
    ("asked", "think"),
    [
        ({}, False),
        ({"thinking": {"type": "disabled"}}, False),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, True),
        ({"thinking": {"type": "adaptive", "display": "summarized"}}, True),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "high"),
        ({"output_config": {"effort": "max"}}, False),
    ],
)
def test_a_model_thinks_where_it_is_asked_to_and_can(
    app: Flask, client: FlaskClient, stand_in: StandIn, asked: Any, think: Any
) -> None:
    assert post(client, **asked).status_code == 200
    can(app, "thinking")
    assert post(client, **asked).status_code == 200
    assert post(client, COUNT, **asked).status_code == 200
    assert [chat["think"] for chat in stand_in.chats()] == [False, think, think]
