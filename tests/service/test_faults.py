import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service import call
from service.gateway import Gateway
from service.settings import Settings
from testbed.ports import free_port
from testbed.stand_in import MODEL, StandIn
from tests.support.errors import error_of
from tests.support.gateways import books, generate


@pytest.mark.parametrize(
    ("status", "text", "answer", "code"),
    [
        (400, "image: unknown format", 400, "invalid_request"),
        (404, "model 'x' not found", 503, "engine_unavailable"),
        (500, "llama-server process has terminated: exit status 1: insufficient memory", 503, "engine_unavailable"),
        (500, "llama-server process has terminated: unknown model architecture: 'x'", 503, "engine_unavailable"),
        (503, "server busy, please try again", 503, "engine_unavailable"),
        (500, "llama-server process has terminated: signal: killed", 502, "engine_failed"),
        (500, "error parsing tool call: raw='no memory, no grammar', err=invalid character", 502, "engine_failed"),
        (500, "Failed to parse input at pos 4: no memory, \nno grammar", 502, "engine_failed"),
        (418, "<html>", 502, "engine_failed"),
    ],
)
def test_ollamas_errors_get_a_status_of_their_own(
    app: Flask, client: FlaskClient, stand_in: StandIn, status: int, text: str, answer: int, code: str
) -> None:
    stand_in.error = (status, text)
    reply = generate(client)
    assert (reply.status_code, error_of(reply)["code"]) == (answer, code)
    assert (text in reply.text) == (answer == 400)  # the text of a server's fault stays in the log
    assert ("Retry-After" in reply.headers) == (answer >= 500)
    assert books(app) == (0, 0)


def test_ollama_down_is_a_503_at_once(make_app: Callable[..., Flask]) -> None:
    app = make_app(ollama_host=f"http://127.0.0.1:{free_port()}")
    reply = generate(app.test_client())
    assert (reply.status_code, error_of(reply)["code"]) == (503, "engine_unavailable")
    assert reply.headers["Retry-After"] == "5"
    assert books(app) == (0, 0)


def test_ollama_restarted_needs_no_restart_of_the_gateway(
    client: FlaskClient, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "PATIENCE", 0.5)
    port = stand_in.port
    stand_in.stop()
    assert generate(client).status_code == 503
    again = StandIn().start(port)
    try:
        assert generate(client).status_code == 200
    finally:
        again.stop()


def test_calls_one_after_the_other_share_a_connection_until_one_breaks_off(
    client: FlaskClient, stand_in: StandIn
) -> None:
    assert [generate(client, stream=stream).status_code for stream in (False, True, False)] == [200] * 3
    assert len(stand_in.peers) == 1
    stand_in.error_at = 1
    assert generate(client).status_code == 502
    stand_in.error_at = None
    assert generate(client).status_code == 200
    assert len(stand_in.peers) == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["die_at", "end_at", "error_at"])
def test_a_fault_before_the_first_token_is_a_real_status(
    app: Flask, client: FlaskClient, stand_in: StandIn, fault: str, stream: bool
) -> None:
    setattr(stand_in, fault, 0)
    reply = generate(client, stream=stream)
    assert (reply.status_code, error_of(reply)["code"]) == (502, "engine_failed")
    assert books(app) == (0, 0)


@pytest.mark.parametrize("fault", ["die_at", "end_at", "error_at"])
def test_a_fault_after_the_first_token_is_a_last_error_object(
    app: Flask, client: FlaskClient, stand_in: StandIn, fault: str
) -> None:
    setattr(stand_in, fault, 2)
    reply = generate(client, stream=True)
    assert reply.status_code == 200
    *pieces, last = [json.loads(line) for line in reply.text.splitlines()]
    assert pieces == [{"response": "Hello"}, {"response": ", "}]
    assert last["error"]["code"] == "engine_failed"
    assert "0xdead" not in reply.text
    assert books(app) == (0, 0)


@pytest.mark.parametrize("fault", ["die_at", "end_at", "error_at"])
def test_half_an_answer_is_never_a_200(client: FlaskClient, stand_in: StandIn, fault: str) -> None:
    setattr(stand_in, fault, 2)
    assert generate(client).status_code == 502


def test_a_hanging_model_is_a_504(make_app: Callable[..., Flask], stand_in: StandIn) -> None:
    stand_in.hold_at = 0
    app = make_app(generation_timeout=1)
    reply = generate(app.test_client(), stream=True)
    assert (reply.status_code, error_of(reply)["code"]) == (504, "generation_timeout")
    assert books(app) == (0, 0)


def test_a_model_that_hangs_later_ends_the_stream_with_an_error(
    make_app: Callable[..., Flask], stand_in: StandIn
) -> None:
    stand_in.hold_at = 1
    reply = generate(make_app(generation_timeout=1).test_client(), stream=True)
    last = json.loads(reply.text.splitlines()[-1])
    assert last["error"]["code"] == "generation_timeout"


def test_the_watch_loads_the_model_with_the_options_of_every_request(
    make_app: Callable[..., Flask], stand_in: StandIn
) -> None:
    stand_in.loaded = False
    app = make_app()
    gateway: Gateway = app.extensions["sluice"].default
    gateway.watch.look()
    assert gateway.watch.loaded
    assert gateway.watch.capabilities == {"completion", "vision", "tools", "embedding"}
    path, load = stand_in.requests[-1]
    assert path == "/api/generate"
    assert load == {"model": MODEL, "keep_alive": -1, "options": {"num_ctx": 2048, "num_thread": 2}, "shift": False}
    generate(app.test_client())
    [chat] = stand_in.chats()
    assert load["options"].items() <= chat["options"].items()
    assert {name: chat[name] for name in ("model", "shift")} == {"model": MODEL, "shift": False}


def test_a_model_that_embeds_is_loaded_by_embedding(make_app: Callable[..., Flask], stand_in: StandIn) -> None:
    stand_in.loaded, stand_in.capabilities = False, ["embedding"]
    gateway: Gateway = make_app().extensions["sluice"].default
    gateway.watch.look()
    assert gateway.watch.loaded
    path, load = stand_in.requests[-1]
    assert (path, load["input"]) == ("/api/embed", [])


def test_the_watch_sees_ollama_go_and_come_back(
    app: Flask, stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    gateway: Gateway = app.extensions["sluice"].default
    port = stand_in.port
    stand_in.stop()
    gateway.watch.look()
    gateway.watch.look()
    assert not gateway.watch.loaded
    assert caplog.text.count("the model is not ready") == 1
    again = StandIn(loaded=False).start(port)
    try:
        gateway.watch.look()
        assert gateway.watch.loaded
    finally:
        again.stop()


def test_a_model_the_store_lacks_is_not_ready(make_app: Callable[..., Flask], stand_in: StandIn) -> None:
    stand_in.loaded, stand_in.error = False, (404, "model not found")
    gateway: Gateway = make_app().extensions["sluice"].default
    gateway.watch.look()
    assert not gateway.watch.loaded


def test_the_settings_of_the_app_are_its_own(make_app: Callable[..., Flask]) -> None:
    gateway: Gateway = make_app(slots=3).extensions["sluice"].default
    assert gateway.admission.slots == 3
    assert isinstance(gateway.settings, Settings)


@pytest.mark.parametrize(
    "message", [{"content": None}, {"tool_calls": [{}]}, {"tool_calls": [{"function": {"name": "x", "arguments": 1}}]}]
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_line_that_is_no_piece_of_an_answer_is_the_engines_fault(
    client: FlaskClient, stand_in: StandIn, message: dict[str, Any], stream: bool
) -> None:
    stand_in.message = message
    reply = generate(client, stream=stream)
    assert (reply.status_code, error_of(reply)["code"]) == (502, "engine_failed")


def test_a_fault_of_our_own_in_a_stream_ends_it_with_an_error_object(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        yield {"response": "Hello"}
        raise KeyError("x")

    monkeypatch.setattr("service.dialects.generate.pieces", broken)
    _, last = generate(client, stream=True).text.splitlines()
    assert json.loads(last)["error"]["code"] == "internal_error"
    assert books(app) == (0, 0)
