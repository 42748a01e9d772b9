import json
import re
from functools import cache
from typing import Any

import jsonschema
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.openapi import openapi
from service.settings import Settings
from testbed.pictures import png
from testbed.stand_in import MODEL
from tests.support.requests import GOOD, OLLAMA_HI

STAND_INS = frozenset({"completion", "vision", "tools", "embedding"})  # what the stand-in says of its model
PICTURE = f"data:image/png;base64,{png(3, 3)}"
NAMES = st.text(max_size=3) | st.just("type")
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["#", "object"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
NO_DURATIONS: list[Any] = ["", "5 m", f"{'1' * 64}m", True, []]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return each place in a document: the list or object, and the index or name in it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in [(value, key), *places(item)]]


def test_the_document_is_valid_and_tells_of_every_route(client: FlaskClient) -> None:
    document: Any = client.get("/openapi.json").json
    rules = {re.sub(r"<(\w+:)?(\w+)>", r"{\2}", rule.rule) for rule in client.application.url_map.iter_rules()}
    assert set(document["paths"]) == rules - {"/", "/openapi.json"}
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", GOOD)
def test_answers_and_errors_are_as_the_document_says(client: FlaskClient, path: str) -> None:
    document: Any = client.get("/openapi.json").json
    told = document["paths"][path]["post"]["responses"]
    for body in (GOOD[path], {}, {**GOOD[path], "model": "other"}):
        reply = client.post(path, json=body)
        schema = {**told[str(reply.status_code)]["content"]["application/json"]["schema"], **document}
        jsonschema.validate(reply.json, schema)
    assert client.post(path, json=GOOD[path]).status_code == 200


def test_what_the_settings_allow_is_in_the_document() -> None:
    document = openapi(Settings(model="llava", max_tokens=99, api_keys_file="keys.toml"))
    fields = document["components"]["schemas"]["ChatBody"]["properties"]
    assert fields["model"]["enum"] == ["llava"]
    assert fields["max_tokens"]["anyOf"][0] == {"type": "integer", "minimum": 1}
    assert {"401", "403"} < document["paths"]["/v1/models"]["get"]["responses"].keys()


def test_a_parameter_that_cannot_be_read_is_in_the_document() -> None:
    paths = openapi(Settings())["paths"]
    assert paths["/v1/models/{model}"]["get"]["responses"].keys() == {"200", "400", "404"}
    assert paths["/api/blobs/{digest}"]["head"]["responses"].keys() == {"400", "403"}
    assert paths["/v1/models"]["get"]["responses"].keys() == {"200"}


@cache
def body_of(path: str, *capabilities: str) -> Any:
    """Return the JSON schema of the bodies for a path; that any unknown field may be null, the document doesn't say."""
    document = openapi(Settings(model=MODEL), frozenset(capabilities or STAND_INS))
    for schema in document["components"]["schemas"].values():
        if schema.get("additionalProperties") is False:
            schema["additionalProperties"] = {"type": "null"}
    content = document["paths"][path]["post"]["requestBody"]["content"]
    name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    return {**document["components"]["schemas"][name], "components": document["components"]}


def allows(path: str, body: Any, *capabilities: str) -> bool:
    return jsonschema.Draft202012Validator(body_of(path, *capabilities)).is_valid(body)


@pytest.mark.parametrize("path", GOOD)
def test_every_field_that_may_be_left_out_may_be_null(client: FlaskClient, path: str) -> None:
    schema = body_of(path)
    required = schema.get("required", ["model"])
    sent = {name: GOOD[path][name] if name in required else None for name in schema["properties"]}
    assert allows(path, sent)
    assert client.post(path, json=sent, buffered=True).status_code == 200
    for name in schema.get("required", ()):
        assert not allows(path, {**sent, name: None})
        assert client.post(path, json={**sent, name: None}, buffered=True).status_code == 400


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        *[("/api/generate", {field: True}) for field in ("logprobs", "raw", "think")],
        *[("/api/generate", {field: "x"}) for field in ("suffix", "template", "keep_alive")],
        *[("/api/generate", {"keep_alive": value}) for value in NO_DURATIONS],
        ("/api/generate", {"context": [{}]}),
        ("/api/chat", {"messages": [{"role": "robot", "content": "Hi"}]}),
        ("/generate", {"think": True}),
        ("/generate", {"model": ""}),
    ],
)
def test_what_is_refused_is_not_in_the_document(client: FlaskClient, path: str, changes: Any) -> None:
    assert not allows(path, {**GOOD[path], **changes})
    assert client.post(path, json={**GOOD[path], **changes}, buffered=True).status_code in (400, 404)


def test_a_role_in_capitals_is_in_the_document(client: FlaskClient) -> None:
    body = {"model": MODEL, "messages": [{"role": "USER", "content": "Hi"}]}
    assert allows("/api/chat", body)
    assert client.post("/api/chat", json=body, buffered=True).status_code == 200


SEEN = [
    ("/generate", {"images": [png(3, 3)]}),
    ("/api/chat", {"messages": [{**OLLAMA_HI, "images": [png(3, 3)]}]}),
    (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE}}]}]},
    ),
    (
        "/v1/responses",
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": PICTURE}]}]},
    ),
    (
        "/v1/messages",
        {
            "messages": [
                {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": png(3, 3)}}]}
            ]
        },
    ),
]


@pytest.mark.parametrize(("path", "body"), SEEN)
@pytest.mark.parametrize("sees", [True, False])
def test_images_are_in_the_document_if_the_model_sees_them(
    app: Flask, client: FlaskClient, path: str, body: Any, sees: bool
) -> None:
    capabilities = STAND_INS if sees else STAND_INS - {"vision"}
    app.extensions["sluice"].default.watch.capabilities = capabilities
    sent = {**GOOD[path], **body}
    assert allows(path, sent, *capabilities) == sees
    assert client.post(path, json=sent, buffered=True).status_code == (200 if sees else 400)


def message_of(reply: Any) -> Any:
    error = reply.json["error"]
    return error if isinstance(error, str) else error["message"]


# What a schema doesn't say: that a text is an image, JSON or a JSON schema, and how fields go together.
UNSAID = re.compile(
    r"image|valid JSON|as text|(?<!or a JSON )[Ss]chema|empty or blank|"
    r"is none of the tools|there are no tools|same name twice|not found"
)


@pytest.mark.parametrize("path", GOOD)
@settings(derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_bad_shapes_get_only_what_the_document_says(client: FlaskClient, path: str, data: st.DataObject) -> None:
    body = json.loads(json.dumps(GOOD[path]))
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(range(len(places(body))))), None
        holder, key = places(body)[holder]
        holder[key] = data.draw(ODD)
    reply = client.post(path, data=json.dumps(body), buffered=True)
    assert reply.status_code in (200, 400, 404, 413, 422)
    allowed = allows(path, body)
    assert allowed if reply.status_code == 200 else not allowed or UNSAID.search(message_of(reply))
