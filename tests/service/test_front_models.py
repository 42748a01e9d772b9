"""A front of several models, and what reaches the pods of each."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask

from service import create_app
from service.private_port import create_private_app
from service.settings import Role, Settings
from testbed.stand_in import StandIn
from testbed.waiting import eventually
from tests.support.stub import HANG, Answer, Request, Stub, stub

FIRST, SECOND = "hf.co/somebody/First:Q4", "second"
NO_POD: Answer = (503, {}, {"error": {"code": "engine_unavailable", "message": "no pod is ready", "hint": None}})
CHAT: Answer = (
    200,
    {},
    [
        {"message": {"role": "assistant", "content": "Hello"}, "done": False},
        {"done": True, "message": {"role": "assistant", "content": ""}},
    ],
)
VECTOR: Answer = (200, {}, {"embeddings": [[0.5]], "prompt_eval_count": 1})


@contextmanager
def fronted(answers: dict[tuple[str, str], Answer], **settings: Any) -> Iterator[tuple[Flask, Stub]]:
    """Return a front of both models, before pods whose answers are given by path and model."""

    def answer(request: Request) -> Answer:
        return answers[request.path, request.headers["X-Model"]]

    with stub(answer) as upstream:
        named = {"model": f"{FIRST} {SECOND}", **settings}
        app = create_app(Settings(role=Role.FRONT, upstream=upstream.url, **named))
        try:
            yield app, upstream
        finally:
            for gateway in app.extensions["sluice"].gateways:
                gateway.ollama.pool.forget()


def test_every_request_tells_haproxy_the_model_in_one_spelling() -> None:
    quoted = "hf.co%2Fsomebody%2FFirst%3AQ4"
    told = {
        (path, name): answer
        for path, answer in (("/engine/chat", CHAT), ("/engine/embed", VECTOR))
        for name in (quoted, SECOND)
    }
    model: Answer = (200, {}, {"model": FIRST, "capabilities": ["completion", "embedding"]})
    with fronted({**told, ("/model", quoted): model}, aliases=f"x={FIRST}") as (app, upstream):
        app.extensions["sluice"].default.watch.look()
        client = app.test_client()
        for name in (FIRST, FIRST.lower(), "x"):
            assert client.post("/generate", json={"prompt": "Hi", "model": name}).json["model"] == FIRST
            assert client.post("/v1/embeddings", json={"input": "Hi", "model": name}).status_code == 200
        assert client.post("/generate", json={"prompt": "Hi", "model": SECOND}).json["model"] == SECOND
        assert [request.headers["X-Model"] for request in upstream.requests] == [quoted] * 7 + [SECOND]


def test_a_front_is_ready_once_every_model_has_had_a_pod_of_its_own() -> None:
    first: Answer = (200, {}, {"model": FIRST, "capabilities": ["tools"]})
    answers = {("/model", quote(FIRST, safe="")): first, ("/model", SECOND): first}
    with fronted(answers) as (app, _):
        models, private = app.extensions["sluice"], create_private_app(app.extensions["sluice"]).test_client()

        def told() -> tuple[int, str]:
            for gateway in models.gateways:
                gateway.watch._next = 0.0
                gateway.watch.look()
            reply: Any = private.get("/readyz")
            return reply.status_code, reply.json.get("error", {}).get("message", "")

        assert told() == (503, f"no pod has this release's model yet: {SECOND}")
        answers["/model", SECOND] = NO_POD
        assert told()[0] == 503  # they may only be late
        models.find(SECOND).watch._born -= 10
        assert told() == (200, "")  # it may have been scaled to zero


def test_requests_for_one_model_leave_the_others_places_free() -> None:
    answers = {("/engine/chat", quote(FIRST, safe="")): HANG, ("/engine/chat", SECOND): CHAT}
    with fronted(answers, max_in_flight=5) as (app, upstream):
        client = app.test_client()
        held = [
            threading.Thread(target=client.post, args=("/generate",), kwargs={"json": {"prompt": "Hi"}}) for _ in "12"
        ]
        for thread in held:
            thread.start()
        eventually(lambda: len(upstream.requests) == 2)
        refused: Any = client.post("/generate", json={"prompt": "Hi"})
        assert (refused.status_code, refused.json["error"]["code"]) == (503, "saturated")
        assert client.post("/generate", json={"prompt": "Hi", "model": SECOND}).status_code == 200
        upstream.ended.set()
        for thread in held:
            thread.join(30)


@pytest.fixture
def back(make_app: Callable[..., Flask]) -> Flask:
    return make_app(role=Role.BACK, model=FIRST)


@pytest.mark.parametrize("path", ["/engine/chat", "/engine/embed"])
def test_a_pod_never_answers_for_another_model(back: Flask, stand_in: StandIn, path: str) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "input": ["Hi"]}
    refused: Any = back.test_client().post(path, json=body, headers={"X-Model": SECOND})
    # For HAProxy it isn't the pod's fault, and the front tells its caller to come back.
    assert (refused.status_code, refused.json["error"]["code"]) == (501, "engine_failed")
    assert refused.headers["Retry-After"]
    assert not stand_in.requests


@pytest.mark.parametrize("name", ["hf.co%2Fsomebody%2FFirst%3AQ4", "hf.co/somebody/first:q4", None])
def test_a_pod_answers_for_its_own_model_and_fronts_that_name_none(back: Flask, name: str | None) -> None:
    headers = {} if name is None else {"X-Model": name}
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    assert back.test_client().post("/engine/chat", json=body, headers=headers, buffered=True).status_code == 200
    private = create_private_app(back.extensions["sluice"]).test_client()
    assert private.get("/model", headers=headers).status_code == 200
    assert private.get("/model", headers={"X-Model": SECOND}).status_code == 404
