from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from testbed.stand_in import MODEL, StandIn
from tests.support.errors import ollama_error_of as error_of

VECTOR = [0.6, 0.8]


def post(client: FlaskClient, path: str = "/api/embed", **body: Any) -> Any:
    return client.post(path, json={"model": MODEL, **body})


@pytest.mark.parametrize(("asked", "texts"), [("a", ["a"]), (["a", "b"], ["a", "b"]), (["a", ""], ["a", ""])])
def test_texts_are_embedded(client: FlaskClient, stand_in: StandIn, asked: Any, texts: list[str]) -> None:
    more: Any = {"truncate": True, "keep_alive": "5m", "options": {"num_ctx": 8192}, "dimensions": 2}
    told = post(client, input=asked, **more).json
    assert told.pop("total_duration") > 0
    figures = {"load_duration": 2_000_000, "prompt_eval_count": 3}
    assert told == {"model": MODEL, "embeddings": [VECTOR] * len(texts), **figures}
    path, sent = stand_in.requests[-1]
    assert (path, sent.pop("options")) == ("/api/embed", {"num_ctx": 2048, "num_thread": 2})
    assert sent == {"model": MODEL, "keep_alive": -1, "input": texts, "dimensions": 2, "truncate": False}


def test_the_older_route_embeds_one_text(client: FlaskClient, stand_in: StandIn) -> None:
    reply = post(client, "/api/embeddings", prompt="a", input=["a"], keep_alive=60)
    assert reply.json == {"embedding": VECTOR}
    assert stand_in.requests[-1][1]["input"] == ["a"]


@pytest.mark.parametrize("body", [{}, {"input": ""}, {"input": []}, {"input": None, "keep_alive": 0}])
def test_without_a_text_the_model_is_only_loaded(client: FlaskClient, stand_in: StandIn, body: Any) -> None:
    asked = len(stand_in.requests)
    assert post(client, **body).json == {"model": MODEL, "embeddings": []}
    assert post(client, "/api/embeddings").json == {"embedding": []}
    assert len(stand_in.requests) == asked


@pytest.mark.parametrize(
    ("body", "status", "complaint"),
    [
        ({"input": 5}, 400, "input: must be a text or a list"),
        ({"input": [1, 2]}, 400, "input[0]: must be a text"),
        ({"input": ["a"] * 2049}, 400, "input: must have at most 2048 items"),
        ({"input": "x" * 20_000}, 400, "input: 20000 characters; at most 16384 are allowed"),
        ({"input": ["x", "y" * 20_000]}, 400, "input[1]: 20000 characters"),
        ({"input": "a", "dimensions": -1}, 400, "dimensions: "),
        ({"input": "a", "prompt": "a"}, 400, "prompt: is not supported"),
        ({"input": "a", "model": "other"}, 404, f"model 'other' not found: this server serves {MODEL} only"),
    ],
)
def test_what_cannot_be_embedded_is_refused_by_name(
    client: FlaskClient, stand_in: StandIn, body: Any, status: int, complaint: str
) -> None:
    asked = len(stand_in.requests)
    reply = post(client, **body)
    assert (reply.status_code, error_of(reply).startswith(complaint)) == (status, True)
    assert len(stand_in.requests) == asked


def test_a_model_that_cannot_embed_says_so(app: Flask, client: FlaskClient) -> None:
    app.extensions["sluice"].default.watch.capabilities = frozenset({"completion"})
    for reply in (post(client, input="a"), post(client), post(client, "/api/embeddings", prompt="a")):
        assert reply.status_code == 400
        assert "can't embed" in error_of(reply)
