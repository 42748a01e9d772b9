"""A front before an upstream that says what a test wants."""

import json
from typing import Any

import pytest
from flask import Flask

from service import create_app
from service.front import ALONE
from service.gateway import Gateway
from service.settings import Role, Settings
from testbed.stand_in import MODEL, NAME
from tests.support.stub import scripted

HELLO = {"prompt": "Hi"}


def front_app(upstream: str, **settings: Any) -> Flask:
    return create_app(Settings(role=Role.FRONT, upstream=upstream, model=MODEL, **settings))


def watched(app: Flask) -> tuple[bool, frozenset[str]]:
    gateway: Gateway = app.extensions["sluice"].default
    gateway.watch.look()
    gateway.ollama.pool.forget()
    return gateway.watch.loaded, gateway.watch.capabilities


NO_POD = (503, {"error": {"code": "engine_unavailable", "message": "no pod is ready", "hint": None}})


def test_a_front_is_ready_with_the_first_pod_of_its_model() -> None:
    other = {"model": "other:latest", "capabilities": ["vision"]}
    own = {"model": f"{MODEL}:latest", "capabilities": ["tools"]}
    with scripted(model=[(200, other), (200, own)]) as upstream:
        app = front_app(upstream.url)
        assert watched(app) == (False, frozenset())  # a release before its own: its pods may never come
        assert watched(app) == (True, frozenset({"tools"}))
        assert watched(app) == (True, frozenset({"tools"}))
        assert len(upstream.requests) == 2  # what is fresh isn't asked for again


PIECE = {"message": {"role": "assistant", "content": "Hello"}, "done": False}
FAILED, KILLS = ({"error": {"code": code, "message": "m", "hint": None}} for code in ("engine_failed", "kills_engine"))

DIED = {**FAILED, "died": True}


@pytest.mark.parametrize("stream", [False, True])
def test_the_next_pod_learns_how_many_engines_died_during_a_request(stream: bool) -> None:
    with scripted(engine_chat=[(200, [PIECE, DIED]), (200, [PIECE, KILLS])]) as upstream:
        app = front_app(upstream.url)
        replies = [app.test_client().post("/generate", json={**HELLO, "stream": stream}, buffered=True) for _ in "123"]
        app.extensions["sluice"].default.ollama.pool.forget()
        told = [json.loads(reply.text.splitlines()[-1])["error"]["code"] for reply in replies]
        assert told == ["engine_failed" if stream else "kills_engine", "kills_engine", "kills_engine"]
        assert [request.headers.get("X-Engine-Deaths") for request in upstream.requests] == [None, "1"]


def test_an_answer_that_fails_without_a_death_makes_no_suspect() -> None:
    with scripted(engine_chat=(200, [PIECE, FAILED])) as upstream:
        app = front_app(upstream.url)
        reply = app.test_client().post("/generate", json=HELLO)
        app.extensions["sluice"].default.ollama.pool.forget()
        assert (reply.status_code, len(upstream.requests)) == (502, 3)
        assert not any("X-Engine-Deaths" in request.headers for request in upstream.requests)


FACTS = {"version": "0.32.15", "listed": {"name": NAME}, "shown": {"template": "x"}, "running": {"size_vram": 5}}


def test_a_front_tells_what_the_pods_tell_and_remembers_it_while_there_are_none() -> None:
    young = {"model": MODEL, "capabilities": ["tools"]}  # it has just started, or is of a release before
    with scripted(model=[(200, young), (200, young | FACTS), NO_POD]) as upstream:
        app = front_app(upstream.url)
        client, watch = app.test_client(), app.extensions["sluice"].default.watch
        watched(app)
        assert client.get("/api/tags").status_code == 503
        for running in ([{"size_vram": 5}], []):
            watch._next = 0.0
            watched(app)
            assert client.get("/api/tags").json == {"models": [{"name": NAME}]}
            assert client.get("/api/ps").json == {"models": running}
            assert client.post("/api/show", json={"model": MODEL}).json == {"template": "x"}


def test_what_a_pod_should_not_tell_is_not_told_on(caplog: pytest.LogCaptureFixture) -> None:
    odd = {"model": MODEL, "capabilities": ["tools"], "shown": [], "listed": "x", "version": 5, "running": "yes"}
    with scripted(model=(200, odd)) as upstream:
        app = front_app(upstream.url)
        assert watched(app) == (True, frozenset({"tools"}))
        assert app.test_client().get("/api/ps").status_code == 503


def test_a_front_without_any_pod_is_ready_after_a_while() -> None:
    with scripted(model=NO_POD) as upstream:
        app = front_app(upstream.url)
        watch: Any = app.extensions["sluice"].default.watch
        watch._born += ALONE
        assert watched(app) == (False, frozenset())
        watch._born -= 2 * ALONE
        assert watched(app) == (True, frozenset())


def test_pods_of_a_release_that_does_not_know_fronts_are_not_waited_past() -> None:
    missing = {"error": {"code": "not_found", "message": "there is nothing at /model", "hint": None}}
    with scripted(model=(404, missing)) as upstream:
        app = front_app(upstream.url)
        app.extensions["sluice"].default.watch._born -= ALONE
        assert watched(app) == (False, frozenset())


def test_an_upstream_that_is_not_ours_is_a_failed_engine() -> None:
    with scripted(engine_chat=(500, b"<html>proxy error</html>")) as upstream:
        app = front_app(upstream.url)
        reply = app.test_client().post("/generate", json=HELLO)
        app.extensions["sluice"].default.ollama.pool.forget()
    assert (reply.status_code, reply.json["error"]["code"]) == (502, "engine_failed")
    assert "html" not in reply.text
