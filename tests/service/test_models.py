"""Several models in one process: whom a request asks, and what is told of each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.private_port import create_private_app
from testbed.fetching import fetch
from testbed.gateway import Served
from testbed.stand_in import MODEL, NAME, StandIn
from testbed.stand_in import model as stand_in_model
from testbed.waiting import eventually
from tests.support.api_keys import entry, write
from tests.support.requests import GOOD

VECTORS = "vectors"  # the second model, which only embeds
SECOND = {"model": f"{MODEL} second", "aliases": "gpt-4o-mini=second, default=stand-in"}
CHATTING = [path for path in GOOD if "embed" not in path and path not in ("/api/show", "/v1/messages/count_tokens")]
ALL = f"{MODEL} (also as default) and second (also as gpt-4o-mini)"
Make = Callable[..., Flask]


@pytest.fixture
def app(make_app: Make, stand_in: StandIn) -> Flask:
    """Return the app with two models that can do everything."""
    stand_in.others = {"second": stand_in.capabilities}
    return looked(make_app(**SECOND))


def looked(app: Flask) -> Flask:
    """Return the app once it knows its models."""
    for gateway in app.extensions["sluice"].gateways:
        gateway.watch.look()
    return app


def post(client: FlaskClient, path: str, **changes: Any) -> Any:
    return client.post(path, json={**GOOD[path], **changes}, buffered=True)


@pytest.mark.parametrize("path", [path for path in GOOD if path != "/api/show"])
def test_a_request_goes_to_the_model_that_it_names(client: FlaskClient, stand_in: StandIn, path: str) -> None:
    for name, model in {MODEL: MODEL, "second": "second", "Second:latest": "second", "gpt-4o-mini": "second"}.items():
        assert post(client, path, model=name).status_code == 200
        assert stand_in.requests[-1][1]["model"] == model


def test_a_request_that_names_none_goes_to_the_first(client: FlaskClient, stand_in: StandIn) -> None:
    reply: Any = client.post("/generate", json={"prompt": "Hi"})
    assert (reply.json["model"], stand_in.requests[-1][1]["model"]) == (MODEL, MODEL)


@pytest.mark.parametrize("path", [*CHATTING, "/api/embed", "/v1/embeddings"])
def test_an_answer_names_the_model_also_to_who_asked_for_an_alias(client: FlaskClient, path: str) -> None:
    reply = post(client, path, model="gpt-4o-mini", **({"stream": False} if path in CHATTING else {}))
    assert reply.json["model"] == "second"


@pytest.mark.parametrize("path", GOOD)
def test_a_model_that_is_not_served_is_a_404_that_lists_those_that_are(client: FlaskClient, path: str) -> None:
    reply = post(client, path, model="third")
    assert reply.status_code == 404
    assert f"this server serves {ALL} only" in json.dumps(reply.json)


def test_each_model_is_listed_once_and_found_by_any_name(client: FlaskClient) -> None:
    told: Any = client.get("/v1/models").json
    assert [model["id"] for model in told["data"]] == [MODEL, "second"]
    assert client.get("/v1/models/gpt-4o-mini").json["id"] == "second"
    theirs: Any = client.get("/v1/models", headers={"anthropic-version": "2023-06-01"}).json
    assert [model["display_name"] for model in theirs["data"]] == [MODEL, "second"]
    assert (theirs["first_id"], theirs["last_id"]) == (MODEL, "second")


def test_ollamas_clients_are_told_of_each_model(client: FlaskClient) -> None:
    names = [NAME, "second:latest"]
    for path in ("/api/tags", "/api/ps"):
        assert [model["name"] for model in client.get(path).json["models"]] == names
    assert client.get("/api/version").json == {"version": stand_in_model.VERSION}
    for name in ("second", "gpt-4o-mini"):
        assert "# FROM second:latest" in client.post("/api/show", json={"model": name}).json["modelfile"]
    reply: Any = client.post("/api/pull", json={"model": "third"}).json
    assert reply["error"] == f"the operator of this server chooses its models, which are {ALL}"


def test_a_model_of_which_nothing_is_known_yet_hides_no_other(make_app: Make, stand_in: StandIn) -> None:
    app = make_app(**SECOND)
    app.extensions["sluice"].default.watch.look()
    client = app.test_client()
    assert [model["name"] for model in client.get("/api/tags").json["models"]] == [NAME]
    assert client.get("/api/version").status_code == 200
    assert client.post("/api/show", json={"model": "second"}).status_code == 503


def test_each_model_does_what_it_can(make_app: Make, stand_in: StandIn) -> None:
    stand_in.capabilities, stand_in.others = ["completion"], {VECTORS: ["embedding"]}
    client = looked(make_app(model=f"{MODEL} {VECTORS}")).test_client()
    assert client.post("/generate", json={"prompt": "Hi"}).status_code == 200
    assert client.post("/v1/embeddings", json={"model": VECTORS, "input": "Hi"}).status_code == 200
    refused: Any = client.post("/generate", json={"prompt": "Hi", "model": VECTORS}).json
    assert f"model: {VECTORS} can't chat" in refused["error"]["message"]
    refused = client.post("/v1/embeddings", json={"model": MODEL, "input": "Hi"}).json
    assert f"model: {MODEL} can't embed" in refused["error"]["message"]


def test_a_key_gets_only_the_models_of_its_entry(make_app: Make, stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.others = {"second": stand_in.capabilities}
    keys = entry("all", "all") + entry("one", "one", models=["gpt-4o-mini"])
    client = looked(make_app(**SECOND, api_keys_file=str(write(tmp_path / "keys", keys)))).test_client()

    def names(path: str, token: str, field: str) -> list[str]:
        told: Any = client.get(path, headers={"Authorization": f"Bearer {token}"}).json
        return [model[field] for model in told.get("data") or told["models"]]

    assert (names("/v1/models", "all", "id"), names("/v1/models", "one", "id")) == ([MODEL, "second"], ["second"])
    assert names("/api/tags", "one", "name") == names("/api/ps", "one", "name") == ["second:latest"]
    as_one = {"headers": {"Authorization": "Bearer one"}}
    for path, body in GOOD.items():
        refused: Any = client.post(path, json=body, **as_one)
        assert refused.status_code == 403
        assert "this key may use second (also as gpt-4o-mini) only" in json.dumps(refused.json)
    assert client.get(f"/v1/models/{MODEL}", **as_one).status_code == 403
    missing: Any = client.get("/v1/models/third", **as_one)
    assert (missing.status_code, MODEL in missing.text) == (404, False)
    default: Any = client.post("/generate", json={"prompt": "Hi"}, **as_one)
    assert (default.status_code, default.json["model"]) == (200, "second")


def test_the_private_port_tells_of_each_model_and_which_is_missing(app: Flask, stand_in: StandIn) -> None:
    models = app.extensions["sluice"]
    client = create_private_app(models).test_client()
    assert client.get("/readyz").status_code == 200
    models.find("second").watch.loaded = False
    waiting: Any = client.get("/readyz")
    assert (waiting.status_code, waiting.json["error"]["message"]) == (503, "the model is not loaded: second")
    assert client.get("/model").json["model"] == MODEL
    assert client.get("/model", headers={"X-Model": "second"}).json["model"] == "second"
    assert client.get("/model", headers={"X-Model": "a%2Fthird"}).status_code == 404
    post(app.test_client(), "/generate", model="second")
    count = models.metrics.registry.get_sample_value
    for name, loaded, admitted in ((MODEL, 1, 0), ("second", 0, 1)):
        assert count("sluice_model_loaded", {"model": name}) == loaded
        assert count("sluice_requests_admitted_total", {"model": name}) == admitted
        assert count("sluice_slots", {"model": name}) == 4
        assert count("sluice_requests_queued", {"model": name, "priority": "batch"}) == 0


def test_the_description_has_every_name_and_what_one_of_them_can_do(make_app: Make, stand_in: StandIn) -> None:
    stand_in.capabilities, stand_in.others = ["completion"], {"second": ["completion", "vision"]}
    client = looked(make_app(**SECOND)).test_client()
    fields: Any = client.get("/openapi.json").json["components"]["schemas"]["GenerateBody"]["properties"]
    assert fields["model"]["anyOf"][0]["enum"] == [MODEL, "second", "gpt-4o-mini", "default"]
    assert fields["images"]["anyOf"][0]["maxItems"] == 4
    assert fields["think"]["anyOf"][0] == {"const": False}


def test_there_is_a_line_of_capacity_for_each_model(make_server: Callable[..., Served], stand_in: StandIn) -> None:
    stand_in.others = {"second": stand_in.capabilities}
    served = make_server(**SECOND, slots=3)
    for name in (MODEL, "second"):
        assert fetch(f"{served.url}/generate", {"prompt": "Hi", "model": name}).status == 200
    served.process.terminate()
    served.process.wait(30)
    lines = eventually(lambda: [line for line in served.lines() if line["message"] == "capacity"])
    assert sorted((line["model"], line["slots"]) for line in lines) == [("second", 3), (MODEL, 3)]
    assert {line["model"] for line in served.lines() if line["message"] == "request"} == {MODEL, "second"}
