from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.keys import digest
from testbed.stand_in import MODEL, NAME, StandIn
from testbed.stand_in import model as stand_in_model
from tests.support.errors import ollama_error_of as error_of


def test_the_served_model_is_listed_as_ollama_lists_it(client: FlaskClient, stand_in: StandIn) -> None:
    assert client.get("/api/tags").json == {"models": [stand_in_model.listed(NAME, stand_in.capabilities)]}
    assert client.get("/api/ps").json == {"models": [stand_in_model.running(NAME)]}
    assert client.get("/api/version").json == {"version": stand_in_model.VERSION}


def test_who_only_looks_whether_ollama_is_there_gets_no_body(client: FlaskClient) -> None:
    for path in ("/", "/api/version", "/api/tags"):
        reply = client.head(path)
        assert (reply.status_code, reply.data) == (200, b"")


@pytest.mark.parametrize("body", [{"model": MODEL}, {"name": NAME}, {"name": MODEL, "model": "", "verbose": True}])
def test_the_model_is_shown_as_ollama_shows_it_but_for_what_is_long(
    client: FlaskClient, stand_in: StandIn, body: Any
) -> None:
    """With the fields that Go's client sends empty."""
    empty = {"system": "", "template": "", "options": None}
    told: Any = client.post("/api/show", json={**body, **empty}).json
    real = stand_in_model.shown(NAME, stand_in.template, stand_in.capabilities)
    assert "tensors" not in told
    assert real["license"].startswith(told.pop("license")[:-1])
    assert stand_in_model.STORE not in told["modelfile"]
    assert f"\nFROM sha256-{stand_in_model.DIGEST}\n" in told.pop("modelfile")
    assert told == {name: real[name] for name in real if name not in ("license", "modelfile", "tensors")}


def test_a_model_that_is_not_served_is_not_shown(client: FlaskClient) -> None:
    reply = client.post("/api/show", json={"model": "llama3"})
    assert (reply.status_code, error_of(reply)) == (
        404,
        f"model 'llama3' not found: this server serves {MODEL} only",
    )
    reply = client.post("/api/show", json={"model": ""})
    assert (reply.status_code, error_of(reply)) == (400, "model: is required")


def test_a_model_that_is_not_loaded_does_not_run(app: Flask, client: FlaskClient) -> None:
    app.extensions["sluice"].default.watch.loaded = False
    assert client.get("/api/ps").json == {"models": []}
    assert len(client.get("/api/tags").json["models"]) == 1


def test_before_anything_is_known_a_caller_is_told_when_to_come_back(make_app: Callable[..., Flask]) -> None:
    client = make_app().test_client()
    for reply in (
        *(client.get(f"/api/{name}") for name in ("tags", "ps", "version")),
        client.post("/api/show", json={"model": MODEL}),
    ):
        assert (reply.status_code, reply.headers["Retry-After"]) == (503, "5")
        assert error_of(reply) == "the model server has not told of the model yet"


def test_the_error_for_an_unknown_field_names_the_known_ones(client: FlaskClient) -> None:
    names = "model, name, verbose, system, template, options"
    for field, told in (("foo", f"fields: {names}"), ("modell", "did you mean model?")):
        reply = client.post("/api/show", json={field: MODEL})
        assert (reply.status_code, error_of(reply)) == (400, f"{field}: is not supported ({told})")


CHANGES = [("POST", f"/api/{name}") for name in ("pull", "push", "create", "copy", "blobs/sha256:ab")]


@pytest.mark.parametrize(("method", "path"), [*CHANGES, ("DELETE", "/api/delete"), ("HEAD", "/api/blobs/sha256:ab")])
def test_what_would_change_the_server_is_refused(
    client: FlaskClient, stand_in: StandIn, method: str, path: str
) -> None:
    asked = len(stand_in.requests)
    reply = client.open(path, method=method, json={"model": MODEL})
    assert reply.status_code == 403
    if method != "HEAD":
        assert error_of(reply) == f"the operator of this server chooses its model, which is {MODEL}"
    assert len(stand_in.requests) == asked


ROUTES = [
    *(("GET", f"/api/{name}") for name in ("tags", "ps", "version")),
    *(("POST", f"/api/{name}") for name in ("chat", "generate", "embed", "embeddings", "show", "pull")),
    ("DELETE", "/api/delete"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_needs_a_key_where_keys_are_on(
    make_app: Callable[..., Flask], tmp_path: Path, method: str, path: str
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[alice]\nsha256 = "{digest("sesame")}"\n')
    client = make_app(api_keys_file=str(keys)).test_client()
    for headers in ({}, {"Authorization": "Bearer other"}):
        reply = client.open(path, method=method, data=b"{", headers=headers)
        assert reply.status_code == 401
        assert "key" in error_of(reply)
    assert client.open(path, method=method, data=b"{", headers={"Authorization": "Bearer sesame"}).status_code != 401


def test_a_page_of_another_site_is_refused_in_ollamas_form(client: FlaskClient) -> None:
    reply = client.post("/api/chat", json={"model": MODEL}, headers={"Origin": "https://elsewhere.example"})
    assert (reply.status_code, error_of(reply).startswith("Origin: ")) == (403, True)


def test_a_route_that_is_not_there_says_so_in_ollamas_form(client: FlaskClient) -> None:
    reply = client.get("/api/status")
    assert reply.status_code == 404
    assert error_of(reply).startswith("there is nothing at /api/status")
    reply = client.get("/api/chat")
    assert (reply.status_code, error_of(reply)) == (
        405,
        "/api/chat doesn't answer GET (did you mean POST /api/chat?)",
    )
