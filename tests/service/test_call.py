"""Requests whose engine dies under them: one that kills it is found, and the others get their answers."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from flask import Flask
from flask.testing import FlaskClient

from service import call
from service.errors import KillsEngine
from service.gateway import Gateway
from service.ollama import Ollama
from service.settings import Settings
from testbed.fetching import Reply, fetch
from testbed.gateway import Served, serve
from testbed.stand_in import MODEL, StandIn
from testbed.waiting import eventually
from tests.support.errors import error_of
from tests.support.gateways import books, generate

KILL = "kill it"
Server = Callable[..., Served]


def ask(served: Served, prompt: str, **body: Any) -> Reply:
    return fetch(f"{served.url}/generate", {"prompt": prompt, **body})


@pytest.fixture
def deadly(stand_in: StandIn) -> StandIn:
    stand_in.killed_by = KILL
    return stand_in


@pytest.mark.parametrize("stop", ["x", '"options'])
def test_a_request_that_kills_the_engine_is_refused_after_its_second_death(
    app: Flask, client: FlaskClient, deadly: StandIn, stop: str
) -> None:
    for seed in (1, 2, 3):  # another seed makes no other request of it
        reply = client.post("/generate", json={"prompt": KILL, "seed": seed, "stop": [stop]}, buffered=True)
        assert (reply.status_code, error_of(reply)["code"]) == (422, "kills_engine")
        assert "Retry-After" not in reply.headers
        assert "ended the model server twice" in error_of(reply)["message"]
    assert deadly.deaths == 2
    assert books(app) == (0, 0)
    assert generate(client).status_code == 200


def test_the_openai_client_neither_retries_it_nor_hides_the_sentence(make_server: Server, deadly: StandIn) -> None:
    served = make_server()
    refused = pytest.raises(openai.UnprocessableEntityError, match="ended the model server twice")
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none") as client, refused:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": KILL}])
    assert deadly.deaths == 2
    assert served.metric("sluice_engine_deaths_total") == 2


def test_those_beside_it_are_answered(make_server: Server, deadly: StandIn) -> None:
    deadly.token_delay = 0.3
    served = make_server()
    with ThreadPoolExecutor(8) as pool:
        beside = [pool.submit(ask, served, f"{index}") for index in range(3)]
        eventually(lambda: deadly.running == 3)
        killer = pool.submit(ask, served, KILL)
        eventually(lambda: deadly.deaths == 1)
        later = pool.submit(ask, served, "later")
        assert [reply.result().json()["response"] for reply in (*beside, later)] == ["Hello, world"] * 4
        assert killer.result().status == 422
    assert deadly.deaths == 2
    assert served.metric("sluice_requests_in_flight") == 0


def test_what_a_death_costs_is_not_taken_for_the_time_of_a_request(make_server: Server, stand_in: StandIn) -> None:
    stand_in.down_for, stand_in.token_delay = 4, 0.1
    served = make_server(slots=1, max_queue=1, queue_timeout=3)
    with ThreadPoolExecutor(1) as pool:
        delayed = pool.submit(ask, served, "x")
        eventually(lambda: stand_in.running == 1)
        stand_in.kill()
        assert delayed.result().status == 200
        first = pool.submit(ask, served, "y")
        eventually(lambda: served.metric("sluice_requests_in_flight") == 1)
        assert ask(served, "z").status == 200  # one that expected a wait of 4 s would be refused
        assert first.result().status == 200


def test_embeddings_are_sent_again_too(make_app: Callable[..., Flask], stand_in: StandIn) -> None:
    client = make_app().test_client()
    body = {"model": MODEL, "input": "x"}
    assert client.post("/v1/embeddings", json=body).status_code == 200
    stand_in.killed_by = '"x"'
    assert client.post("/v1/embeddings", json=body).status_code == 422
    assert stand_in.deaths == 2


def test_a_stream_that_has_begun_ends_with_an_error_object_at_once(make_server: Server, stand_in: StandIn) -> None:
    stand_in.hold_at, stand_in.down_for = 1, 3
    served = make_server()
    sock = served.connect("/generate", {"prompt": "x", "stream": True})
    text = sock.recv(4096)
    while b"Hello" not in text:
        text += sock.recv(4096)
    stand_in.kill()
    eventually(lambda: stand_in.deaths == 1)
    died = time.monotonic()
    while b"error" not in text:
        part = sock.recv(4096)
        assert part
        text += part
    assert time.monotonic() - died < 1
    assert b'"code": "engine_failed"' in text
    assert b"done" not in text


def test_a_stream_known_to_kill_is_not_called_repeatable(app: Flask, client: FlaskClient, stand_in: StandIn) -> None:
    gateway: Gateway = app.extensions["sluice"].default
    stand_in.error_at, stand_in.error_line = 1, "model runner has unexpectedly stopped"
    last = [json.loads(generate(client, stream=True).text.splitlines()[-1])["error"] for _ in range(3)]
    assert [error["code"] for error in last] == ["engine_failed", "kills_engine", "kills_engine"]
    assert "can be sent again" in last[0]["hint"]
    assert "can be sent again" not in last[1]["hint"]
    assert gateway.admission.in_flight == 0


@pytest.mark.parametrize("words", ["model runner has unexpectedly stopped", "connection refused"])
@pytest.mark.parametrize("error", ["error parsing tool call: raw='{}'", "unexpected words: {}"])
def test_a_death_that_the_model_only_wrote_about_is_none(
    app: Flask, client: FlaskClient, stand_in: StandIn, error: str, words: str
) -> None:
    gateway: Gateway = app.extensions["sluice"].default
    stand_in.error = (500, error.format(words))
    assert error_of(generate(client))["code"] == "engine_failed"
    assert len(stand_in.chats()) == 1
    assert gateway.metrics.engine_deaths._value.get() == 0


def test_an_innocent_request_is_cleared_by_its_answer(make_server: Server, stand_in: StandIn) -> None:
    stand_in.token_delay = 0.2
    served = make_server()
    with ThreadPoolExecutor(1) as pool:
        for deaths in (1, 2, 3):
            reply = pool.submit(ask, served, "x")
            eventually(lambda: stand_in.running == 1)
            stand_in.kill()
            assert reply.result().status == 200
            assert stand_in.deaths == deaths


@contextmanager
def away(served: Served, stand_in: StandIn) -> Iterator[None]:
    """Have the engine die, and not come back before the block ends."""
    port = stand_in.port
    stand_in.stop()
    eventually(lambda: not served.ready())
    yield
    again = StandIn(loaded=False).start(port)
    try:
        eventually(served.ready)
        eventually(lambda: served.metric("sluice_requests_in_flight") == 0)
    finally:
        again.stop()


def test_requests_wait_for_an_engine_that_has_just_died(make_server: Server, stand_in: StandIn) -> None:
    served = make_server()
    with ThreadPoolExecutor(1) as pool:
        with away(served, stand_in):
            reply = pool.submit(ask, served, "x")
            eventually(lambda: served.metric("sluice_requests_in_flight") == 1)
        assert reply.result().status == 200


def test_a_client_that_leaves_while_its_request_waits_for_the_engine_is_dropped(
    make_server: Server, stand_in: StandIn
) -> None:
    served = make_server()
    with away(served, stand_in):
        sock = served.connect("/generate", {"prompt": "x"})
        eventually(lambda: served.metric("sluice_requests_in_flight") == 1)
        sock.close()
        eventually(lambda: served.metric("sluice_requests_in_flight") == 0)


def test_an_engine_that_stays_away_is_a_503_soon(
    app: Flask, client: FlaskClient, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "PATIENCE", 0.5)
    stand_in.stop()
    for _ in range(2):
        reply = generate(client)
        assert (reply.status_code, error_of(reply)["code"]) == (503, "engine_unavailable")
        assert reply.headers["Retry-After"] == "5"
    assert books(app) == (0, 0)


def test_a_network_that_resets_is_no_death_of_the_engine(make_server: Server, stand_in: StandIn) -> None:
    served = make_server()
    stand_in.resets = True
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, served, "x")
        eventually(lambda: stand_in.reset >= 5)
        stand_in.resets = False
        assert answer.result().status == 200
    assert served.metric("sluice_engine_deaths_total") == 0


def test_an_engine_that_lives_and_breaks_off_is_asked_three_times(
    app: Flask, client: FlaskClient, stand_in: StandIn
) -> None:
    gateway: Gateway = app.extensions["sluice"].default
    gateway.ollama.pool.forget()  # what breaks off on a kept connection is sent once more, and not counted
    stand_in.die_at = 0
    reply = generate(client)
    assert (reply.status_code, error_of(reply)["code"]) == (502, "engine_failed")
    assert len(stand_in.chats()) == 3
    assert books(app) == (0, 0)


def test_a_kept_connection_that_was_closed_meanwhile_is_no_death(
    app: Flask, client: FlaskClient, stand_in: StandIn
) -> None:
    gateway: Gateway = app.extensions["sluice"].default
    assert generate(client).status_code == 200
    stand_in.cut_kept = True
    assert generate(client).status_code == 200
    assert len(stand_in.chats()) == 3
    assert gateway.metrics.sent_again._value.get() == 0


def test_a_request_that_came_to_a_dead_engine_is_sent_again_and_not_blamed(
    app: Flask, client: FlaskClient, stand_in: StandIn
) -> None:
    gateway: Gateway = app.extensions["sluice"].default
    stand_in.error = (500, "llama-server process no longer running: -1 ")
    reply = generate(client)
    assert (reply.status_code, error_of(reply)["code"]) == (502, "engine_failed")
    assert len(stand_in.chats()) == 3
    assert gateway.metrics.engine_deaths._value.get() == 0


def test_a_culprit_that_a_gateway_behind_us_found_is_not_sent_again(
    app: Flask, client: FlaskClient, stand_in: StandIn
) -> None:
    stand_in.error = (422, {"code": KillsEngine.code, "message": "no", "hint": None})
    assert [generate(client).status_code for _ in range(2)] == [422, 422]
    assert len(stand_in.chats()) == 1


def test_a_request_carries_headers_and_its_answers_can_be_read(stand_in: StandIn) -> None:
    ollama = Ollama(Settings(ollama_host="http://127.0.0.1:1"), url=stand_in.url, prefix="/engine")
    assert (ollama.chat_path, ollama.embed_path) == ("/engine/chat", "/engine/embed")
    reply = ollama.request("/api/ps", timeout=5, headers={"X-Request-Id": "abc"})
    assert int(reply.header("Content-Length")) > 0
    assert reply.header("X-Queued-Ms") == ""
    reply.close()
    assert stand_in.headers[-1]["x-request-id"] == "abc"
    ollama.pool.forget()


def test_a_proxy_that_breaks_off_is_asked_again_and_nobody_is_blamed(
    make_app: Callable[..., Flask], stand_in: StandIn
) -> None:
    stand_in.die_at = 0
    ollama = Ollama(Settings(model=MODEL), url=stand_in.url, prefix="/engine")
    assert ollama.lives()
    stand_in.stop()
    assert ollama.lives()


@pytest.mark.usefixtures("programs")
def test_two_killers_and_a_bystander_all_along(tmp_path: Path, deadly: StandIn) -> None:
    deadly.token_delay = 0.1
    with serve(deadly.url, tmp_path / "log") as served, ThreadPoolExecutor(24) as pool:
        killers = [pool.submit(kill, served, f"{KILL} {name}", 3) for name in "ab"]
        replies = []
        for index in range(40):
            replies.append(pool.submit(ask, served, f"bystander {index}"))
            time.sleep(0.1)
        assert [killer.result() for killer in killers] == [{422}] * 2
        assert [reply.result().status for reply in replies] == [200] * 40
    assert deadly.deaths <= 6  # three each at worst; usually as many as `python -m loadtest.bench killers` counts


def kill(served: Served, prompt: str, times: int) -> set[int]:
    """Send what kills the engine again and again, as the official client does; return the statuses it saw."""
    statuses = set()
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        for _ in range(times):
            try:
                client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": prompt}])
            except openai.APIStatusError as error:
                statuses.add(error.status_code)
    return statuses
