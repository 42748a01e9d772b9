"""Anthropic's routes: whole answers, streams, counts, and errors in the same form."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from testbed.fetching import fetch
from testbed.gateway import Served
from testbed.stand_in import MODEL, StandIn
from tests.support.anthropic_requests import (
    CALL,
    COUNT,
    HI,
    IMAGE,
    MESSAGES,
    SCHEMA,
    TOOL,
    can,
    error_of,
    events_of,
    post,
    text,
    user,
)
from tests.support.api_keys import entry, write


def test_a_whole_answer_has_its_blocks_and_its_usage(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.tokens, stand_in.message = ["Adding."], {"tool_calls": [CALL, CALL]}
    reply = post(client, tools=[TOOL])
    body = reply.json
    words, *uses = body.pop("content")
    assert words == text("Adding.")
    ids = [each.pop("id") for each in uses]
    assert len(set(ids)) == 2
    assert all(each.startswith("toolu_") for each in ids)
    assert uses == [{"type": "tool_use", "name": "add", "input": {"a": 1}}] * 2
    assert body == {
        "id": f"msg_{reply.headers['Request-Id']}",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 7,
            "output_tokens": 1,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        },
    }


@pytest.mark.parametrize(("limit", "reason"), [(9, "end_turn"), (2, "max_tokens"), (100_000, "end_turn")])
def test_the_reason_to_stop_is_in_anthropics_words(
    client: FlaskClient, stand_in: StandIn, limit: int, reason: str
) -> None:
    assert post(client, max_tokens=limit).json["stop_reason"] == reason
    [*_, delta, stop] = events_of(post(client, max_tokens=limit, stream=True))
    assert (delta["delta"], stop) == ({"stop_reason": reason, "stop_sequence": None}, {"type": "message_stop"})
    assert [chat["options"]["num_predict"] for chat in stand_in.chats()] == [min(limit, 512)] * 2


def test_an_answer_without_a_word_has_no_block(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.tokens = []
    assert post(client).json["content"] == []
    assert [event["type"] for event in events_of(post(client, stream=True))] == [
        *("message_start", "message_delta", "message_stop")
    ]


def begin(index: int, **block: Any) -> Any:
    return {"type": "content_block_start", "index": index, "content_block": block}


def more(index: int, **piece: Any) -> Any:
    return {"type": "content_block_delta", "index": index, "delta": piece}


def end(index: int) -> Any:
    return {"type": "content_block_stop", "index": index}


def test_a_stream_opens_and_closes_each_block(app: Flask, client: FlaskClient, stand_in: StandIn) -> None:
    can(app, "thinking")
    stand_in.thoughts = ["Hm", "."]
    reply = post(client, stream=True, thinking={"type": "adaptive"})
    assert reply.content_type == "text/event-stream"
    start, *blocks, delta, stop = events_of(reply)
    names = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    nothing = dict.fromkeys(names, 0)
    assert start["message"]["id"] == f"msg_{reply.headers['Request-Id']}"
    assert (start["message"]["content"], start["message"]["usage"]) == ([], nothing)
    assert blocks == [
        begin(0, type="thinking", thinking="", signature=""),
        more(0, type="thinking_delta", thinking="Hm"),
        more(0, type="thinking_delta", thinking="."),
        more(0, type="signature_delta", signature=""),
        end(0),
        begin(1, type="text", text=""),
        *(more(1, type="text_delta", text=token) for token in stand_in.tokens),
        end(1),
    ]
    assert delta["usage"] == {**nothing, "input_tokens": 7, "output_tokens": 3}
    assert (delta["delta"], stop["type"]) == ({"stop_reason": "end_turn", "stop_sequence": None}, "message_stop")


def test_calls_are_streamed_as_blocks_between_the_texts(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.tokens, stand_in.message = ["Adding", "."], {"tool_calls": [CALL, CALL]}
    _, *blocks, delta, _ = events_of(post(client, stream=True, tools=[TOOL]))
    ids = [event["content_block"].pop("id") for event in blocks if "toolu_" in json.dumps(event)]
    assert len(set(ids)) == 4

    def said(index: int, words: str) -> list[Any]:
        return [begin(index, type="text", text=""), more(index, type="text_delta", text=words), end(index)]

    def used(index: int) -> list[Any]:
        piece = more(index, type="input_json_delta", partial_json='{"a": 1}')
        return [begin(index, type="tool_use", name="add", input={}), piece, end(index)]

    assert blocks == [*said(0, "Adding"), *used(1), *used(2), *said(3, "."), *used(4), *used(5)]
    assert delta["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "add"}])
def test_a_call_is_forced_where_the_choice_says_so(client: FlaskClient, stand_in: StandIn, choice: Any) -> None:
    stand_in.tokens = ['{"name": "add", ', '"arguments": {"a": 1}}']
    asked: Any = {"tools": [TOOL, {**TOOL, "name": "subtract"}], "tool_choice": choice}
    for body in (post(client, **asked).json, events_of(post(client, **asked, stream=True))[1]["content_block"]):
        [block] = body.get("content", [body])
        assert (block["type"], block["name"]) == ("tool_use", "add")
    assert post(client, COUNT, **asked).json == {"input_tokens": 7}
    whole, _, count = stand_in.chats()
    assert (whole["messages"], whole["format"]) == (count["messages"], count["format"])
    assert ("subtract" in json.dumps(whole["format"])) == (choice["type"] == "any")


def test_one_call_alone_is_kept_where_several_are_not_wanted(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.tokens, stand_in.message = [""], {"tool_calls": [CALL, CALL]}
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    assert len(post(client, tools=[TOOL]).json["content"]) == 2
    assert len(post(client, tools=[TOOL], tool_choice=choice).json["content"]) == 1


def test_a_stream_that_breaks_off_ends_with_an_error(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.error_at = 1
    reply = post(client, stream=True)
    assert reply.status_code == 200
    last = events_of(reply)[-1]
    assert (last["type"], last["request_id"]) == ("error", reply.headers["Request-Id"])
    assert last["error"]["type"] == "api_error"
    assert last["error"]["message"].startswith("the model server failed")


@pytest.mark.parametrize(("display", "shown"), [({}, True), ({"display": "omitted"}, False)])
def test_thoughts_have_a_block_of_their_own_unless_they_are_not_wanted(
    app: Flask, client: FlaskClient, stand_in: StandIn, display: Any, shown: bool
) -> None:
    can(app, "thinking")
    stand_in.thoughts = ["Let me", " see."]
    thinking = {"type": "enabled", "budget_tokens": 2048, **display}
    block = {"type": "thinking", "thinking": "Let me see.", "signature": ""}
    assert post(client, thinking=thinking).json["content"] == [*([block] if shown else []), text("Hello, world")]
    assert ("Let me" in post(client, thinking=thinking, stream=True).text) == shown


def test_tokens_are_counted_by_the_engine_in_one_token_of_an_answer(client: FlaskClient, stand_in: StandIn) -> None:
    asked: Any = {"system": "Be brief.", "tools": [TOOL], "messages": [user(text("Hi"), IMAGE)]}
    asked["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
    reply = post(client, COUNT, **asked)
    assert (reply.status_code, reply.json) == (200, {"input_tokens": 7})
    assert post(client, **asked).status_code == 200
    count, chat = stand_in.chats()
    assert (count["options"].pop("num_predict"), chat["options"].pop("num_predict")) == (1, 9)
    assert count == chat


def test_a_count_needs_a_slot_and_says_when_to_come_back(make_app: Callable[..., Flask], stand_in: StandIn) -> None:
    app = make_app(slots=1, max_queue=0)
    ticket = app.extensions["sluice"].default.admission.enter()
    reply = post(app.test_client(), COUNT)
    assert (reply.status_code, error_of(reply)["type"]) == (503, "overloaded_error")
    assert int(reply.headers["Retry-After"]) >= 1
    ticket.release(completed=False)
    assert post(app.test_client(), COUNT).status_code == 200


@pytest.mark.parametrize("path", [MESSAGES, COUNT])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_other_methods_are_refused_in_the_same_form(client: FlaskClient, path: str, method: str) -> None:
    reply = client.open(path, method=method)
    assert (reply.status_code, {*reply.headers["Allow"].split(", ")}) == (405, {"POST", "OPTIONS"})
    assert "Request-Id" in reply.headers
    if method != "HEAD":
        message = f"{path} doesn't answer {method} (did you mean POST {path}?)"
        assert error_of(reply) == {"type": "invalid_request_error", "message": message}


def test_routes_that_are_not_there_and_other_models_are_not_found(client: FlaskClient) -> None:
    for reply in (client.post("/v1/messages/batches", json={}), post(client, model="claude-opus-4")):
        assert (reply.status_code, error_of(reply)["type"]) == (404, "not_found_error")


def test_a_key_comes_in_anthropics_header(make_app: Callable[..., Flask], tmp_path: Path) -> None:
    client = make_app(api_keys_file=str(write(tmp_path / "keys", entry("alice", "secret")))).test_client()
    body = {"model": MODEL, "max_tokens": 9, "messages": [HI]}
    for path in (MESSAGES, COUNT):
        asked = body if path == MESSAGES else {"model": MODEL, "messages": [HI]}
        assert client.post(path, json=asked, headers={"X-Api-Key": "secret"}).status_code == 200
        for headers in ({}, {"X-Api-Key": "other"}):
            reply = client.post(path, json=asked, headers=headers)
            assert (reply.status_code, error_of(reply)["type"]) == (401, "authentication_error")


def test_what_never_reaches_the_app_is_refused_in_the_same_form(make_server: Callable[..., Served]) -> None:
    served = make_server(max_body_bytes=1024)
    reply = fetch(f"{served.url}{MESSAGES}", b"x" * 2000)
    body = reply.json()
    assert (reply.status, body["error"]["type"]) == (413, "request_too_large")
    assert body["request_id"] == reply.headers["Request-Id"] == reply.headers["X-Request-Id"]
    assert "Request-Id" not in {name.title() for name in fetch(f"{served.url}/v1/models").headers} - {"X-Request-Id"}
