import time
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.error_handlers import answer_errors_in_json
from service.pointers import LONGEST, Pointer, meant, pointers

ROUTES = [
    *("GET /", "POST /generate", "POST /v1/chat/completions", "POST /v1/completions", "POST /v1/responses"),
    *("POST /v1/embeddings", "GET /v1/models", "GET /v1/models/<path:model>", "POST /v1/messages"),
    *("POST /api/chat", "POST /api/generate", "POST /api/embed", "POST /api/embeddings", "GET /api/tags"),
]


@pytest.fixture(scope="module")
def known() -> tuple[Pointer, ...]:
    app = Flask("routes")
    for route in ROUTES:
        method, path = route.split()
        app.add_url_rule(path, route, lambda **_: "", methods=[method])
    return tuple(each for each in pointers(app.url_map) if not each.path.startswith("/static"))


@pytest.mark.parametrize(
    ("asked", "route"),
    [
        ("POST /chat/completions", "POST /v1/chat/completions"),
        ("GET /v1/v1/models", "GET /v1/models"),
        ("POST /api/v1/chat/completions", "POST /v1/chat/completions"),
        ("POST /openai/v1/chat/completions", "POST /v1/chat/completions"),
        ("POST /openai/deployments/gpt-5/chat/completions", "POST /v1/chat/completions"),
        ("POST /v1/engines/davinci/completions", "POST /v1/completions"),
        ("POST /v1/chat/completion", "POST /v1/chat/completions"),
        ("POST /v1/chat/completions/", "POST /v1/chat/completions"),
        ("POST /V1/Chat/Completions", "POST /v1/chat/completions"),
        ("GET /v1/chat/completions", "POST /v1/chat/completions"),
        ("POST /v1/chat", "POST /v1/chat/completions"),
        ("POST /v1", "POST /v1/chat/completions"),
        ("GET /v1/", "GET /v1/models"),
        ("POST /v1/generate", "POST /generate"),
        ("POST /v1/models", "GET /v1/models"),
        ("GET /models", "GET /v1/models"),
        ("GET /api/v1/models/llama", "GET /v1/models/{model}"),
        ("POST /v1/embedding", "POST /v1/embeddings"),
        ("POST /embeddings", "POST /v1/embeddings"),
        ("POST /api/v1/embeddings", "POST /v1/embeddings"),
        ("POST /messages", "POST /v1/messages"),
        ("POST /api/chats", "POST /api/chat"),
        ("POST /ollama/api/chat", "POST /api/chat"),
        ("GET /tags", "GET /api/tags"),
        ("POST /generate/", "POST /generate"),
        ("POST /", "GET /"),
        ("GET /nothing", None),
        ("GET /metrics", None),
        ("GET /healthz", None),
        ("POST /v1/audio/transcriptions", None),
        ("GET /" + "v1/" * 20 + "models", None),
        ("GET /" + "x" * LONGEST, None),
    ],
)
def test_what_is_meant_is_told(known: tuple[Pointer, ...], asked: str, route: str | None) -> None:
    method, path = asked.split()
    found = meant(method, path, known)
    assert (found and f"{found.method} {found.path}") == route


def test_no_path_takes_long(known: tuple[Pointer, ...]) -> None:
    started = time.process_time()
    for path in ("/v1/snoitelpmoc/tahc" * 5, "/" + "v1/" * 7 + "x", "/v1/chat/completionx" + "s" * 60):
        for _ in range(100):
            meant("POST", path, known)
    assert time.process_time() - started < 3  # 0.05 s on a quiet machine


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/chat/completions", {"message", "type", "param", "code", "hint"}),
        ("/v1/chat/completions/", {"message", "type", "param", "code", "hint"}),
        ("/generate/", {"message", "code", "hint"}),
    ],
)
def test_the_error_has_the_form_of_the_dialect(client: FlaskClient, path: str, form: set[str]) -> None:
    reply: Any = client.post(path, json={})
    assert (reply.status_code, set(reply.json["error"])) == (404, form)
    assert reply.json["error"]["hint"].startswith("did you mean POST /")


def test_a_wrong_method_is_told_the_right_one(client: FlaskClient) -> None:
    reply: Any = client.get("/v1/chat/completions")
    assert (reply.status_code, "POST" in reply.headers["Allow"]) == (405, True)
    assert reply.json["error"]["hint"] == "did you mean POST /v1/chat/completions?"


def test_a_path_is_quoted_in_part(client: FlaskClient) -> None:
    reply: Any = client.get("/" + "x" * 5000)
    assert len(reply.json["error"]["message"]) < 200


def test_a_port_that_is_not_public_tells_none_of_its_routes() -> None:
    app = Flask("private", static_folder=None)
    answer_errors_in_json(app)
    app.add_url_rule("/metrics", "metrics", lambda: "")
    reply: Any = app.test_client().get("/metric")
    assert (reply.status_code, reply.json["error"]["hint"]) == (404, None)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_who_probes_the_public_port_is_told_of_the_private_one(client: FlaskClient, path: str) -> None:
    reply: Any = client.get(path)
    assert (reply.status_code, "PRIVATE_PORT" in reply.json["error"]["hint"]) == (404, True)
