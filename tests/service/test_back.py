"""The pod's side of a cluster, as fronts ask it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.private_port import create_private_app
from service.settings import Role
from testbed.fetching import fetch
from testbed.gateway import Served
from testbed.stand_in import DURATIONS, MODEL, NAME, StandIn
from testbed.stand_in import model as stand_in_model
from testbed.waiting import eventually

HELLO = {"messages": [{"role": "user", "content": "Hi"}], "options": {"num_predict": 5, "seed": 7}}


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    app = make_app(role=Role.BACK, context_length=1024)
    app.extensions["sluice"].default.watch.look()
    return app


def ask(client: FlaskClient, body: Any, path: str = "/engine/chat") -> Any:
    """Return the whole answer, its stream at its end."""
    reply = client.post(path, json=body)
    assert reply.data
    reply.close()
    return reply


def lines(reply: Any) -> list[Any]:
    return [json.loads(line) for line in reply.data.splitlines()]


def test_a_chat_is_streamed_as_ollama_writes_it(client: FlaskClient) -> None:
    reply = ask(client, HELLO)
    assert (reply.status_code, reply.content_type) == (200, "application/x-ndjson")
    *pieces, last = lines(reply)
    assert "".join(piece["message"]["content"] for piece in pieces) == "Hello, world"
    assert not any(piece["done"] for piece in pieces)
    figures = {"done_reason": "stop", "prompt_eval_count": 7, "eval_count": 3, "busy_slots": 1.0, **DURATIONS}
    assert last == {"message": {"role": "assistant", "content": ""}, "done": True, **figures}


def test_the_pod_says_itself_which_model_and_how_it_is_loaded(client: FlaskClient, stand_in: StandIn) -> None:
    theirs = {"model": "other", "keep_alive": 0, "shift": True, "truncate": True}
    ask(client, {**HELLO, **theirs})
    [sent] = stand_in.chats()
    options = sent.pop("options")
    assert options == {"num_ctx": 1024, "num_thread": 2, "num_predict": 5, "seed": 7}
    ours = {"model": MODEL, "keep_alive": -1, "stream": True, "think": False, "truncate": False, "shift": False}
    assert sent == {"messages": HELLO["messages"], **ours}


def test_whether_to_think_goes_on_to_ollama_and_thoughts_come_back(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.thoughts = ["Hm", "."]
    pieces = lines(ask(client, {**HELLO, "think": "high"}))
    assert stand_in.chats()[0]["think"] == "high"
    assert "".join(piece["message"].get("thinking", "") for piece in pieces) == "Hm."


def test_tools_and_format_go_on_to_ollama(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.message = {"tool_calls": [{"function": {"name": "now", "arguments": {}}}]}
    wanted = {"tools": [{"type": "function", "function": {"name": "now"}}], "format": {"type": "object"}}
    reply = ask(client, {**HELLO, **wanted})
    assert lines(reply)[0]["message"]["tool_calls"] == stand_in.message["tool_calls"]
    [sent] = stand_in.chats()
    assert {name: sent[name] for name in wanted} == wanted


@pytest.mark.parametrize(("said", "died"), [("model runner has unexpectedly stopped", True), ("no such tool", False)])
def test_the_front_learns_whether_the_engine_died_during_an_answer(
    client: FlaskClient, stand_in: StandIn, said: str, died: bool
) -> None:
    stand_in.error_at, stand_in.error_line = 1, said
    last = lines(client.post("/engine/chat", json=HELLO))[-1]
    assert (last["error"]["code"], last["died"]) == ("engine_failed", died)


def test_a_request_that_ended_another_pods_engine_is_refused_when_it_ends_this_one(
    client: FlaskClient, stand_in: StandIn
) -> None:
    stand_in.error_at, stand_in.error_line = 1, "model runner has unexpectedly stopped"
    for deaths, code in ({}, "engine_failed"), ({"X-Engine-Deaths": "1"}, "kills_engine"):
        reply = client.post("/engine/chat", json={**HELLO, "format": code}, headers=deaths)
        assert lines(reply)[-1]["error"]["code"] == code


def test_embeddings_are_ollamas_answer(client: FlaskClient) -> None:
    reply = client.post("/engine/embed", json={"input": ["a", "b"]})
    assert (reply.json["embeddings"], reply.json["prompt_eval_count"]) == ([[0.6, 0.8], [0.6, 0.8]], 3)


def test_the_wait_in_the_pods_queue_is_told(client: FlaskClient) -> None:
    for path, body in (("/engine/chat", HELLO), ("/engine/embed", {"input": ["a"]})):
        assert 0 <= float(ask(client, body, path).headers["X-Queued-Ms"]) < 1000


def test_a_fault_before_the_answer_is_a_status_and_a_later_one_a_line(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.error_at = 1
    *_, last = lines(ask(client, HELLO))
    assert last["error"]["code"] == "engine_failed"
    stand_in.error = (500, "no")
    reply = ask(client, HELLO)
    # To callers a 502, which the front makes of it; HAProxy takes that for the pod's fault.
    assert (reply.status_code, reply.json["error"]["code"]) == (501, "engine_failed")
    assert reply.headers["Retry-After"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"messages": '])
def test_what_is_no_object_is_refused(client: FlaskClient, body: bytes) -> None:
    for path in ("/engine/chat", "/engine/embed"):
        reply = client.post(path, data=body)
        assert (reply.status_code, reply.json["error"]["code"]) == (400, "invalid_request")


def test_it_serves_nothing_to_callers(client: FlaskClient) -> None:
    for path in ("/", "/v1/models", "/generate", "/v1/chat/completions"):
        assert client.get(path).status_code == client.post(path, json={}).status_code == 404


def test_the_private_port_tells_the_model_what_it_can_do_and_what_ollama_tells_of_it(app: Flask) -> None:
    told: Any = create_private_app(app.extensions["sluice"]).test_client().get("/model").json
    assert told.pop("shown")["model_info"]["general.architecture"] == "gemma3"
    capabilities = ["completion", "vision", "tools", "embedding"]
    assert told == {
        "model": MODEL,
        "capabilities": sorted(capabilities),
        "version": stand_in_model.VERSION,
        "listed": stand_in_model.listed(NAME, capabilities),
        "running": stand_in_model.running(NAME),
    }


def test_a_pod_that_knows_nothing_yet_tells_no_more_than_its_model(make_app: Callable[..., Flask]) -> None:
    told = create_private_app(make_app(role=Role.BACK).extensions["sluice"]).test_client().get("/model").json
    assert told == {"model": MODEL, "capabilities": [], "running": None}


def test_a_front_that_leaves_stops_the_model_and_frees_the_slot(
    make_server: Callable[..., Served], stand_in: StandIn
) -> None:
    stand_in.hold_at = 0
    served = make_server(role="back", slots=1)
    sock = served.connect("/engine/chat", HELLO)
    eventually(lambda: stand_in.running == 1)
    sock.close()
    eventually(lambda: stand_in.cancelled == 1)
    eventually(lambda: served.metric("sluice_requests_in_flight") == 0)


def test_its_log_line_has_the_fronts_request_id(make_server: Callable[..., Served], stand_in: StandIn) -> None:
    served = make_server(role="back")
    fetch(f"{served.url}/engine/chat", HELLO, {"X-Request-Id": "mine-1", "X-Priority": "batch"})
    [line] = eventually(lambda: [line for line in served.lines() if line.get("request_id") == "mine-1"])
    assert (line["path"], line["priority"], line["completion_tokens"]) == ("/engine/chat", "batch", 3)
