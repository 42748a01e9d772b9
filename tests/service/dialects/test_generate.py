import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from testbed.pictures import png, taken_image
from testbed.stand_in import MODEL, StandIn
from tests.support.errors import error_of


def test_a_prompt_gets_its_whole_answer(client: FlaskClient, stand_in: StandIn) -> None:
    reply = client.post("/generate", json={"prompt": "Hi"})
    assert reply.status_code == 200
    body = reply.json
    timings = body.pop("timings")
    assert body == {
        "response": "Hello, world",
        "model": MODEL,
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    }
    assert 0 <= timings["queued_ms"] <= timings["first_token_ms"] <= timings["total_ms"]
    assert timings["busy_slots"] == 1


def test_ollama_is_asked_exactly_this(client: FlaskClient, stand_in: StandIn) -> None:
    client.post(
        "/generate",
        json={
            "prompt": "What is this?",
            "system": "Be brief.",
            "images": [png(40, 50)],
            "max_tokens": 5,
            "temperature": 0,
            "stop": ["\n"],
            "seed": 7,
        },
    )
    [chat] = stand_in.chats()
    assert taken_image(chat["messages"][1]).size == (40, 50)
    assert stand_in.chats() == [
        {
            "model": MODEL,
            "keep_alive": -1,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "What is this?"},
            ],
            "options": {
                "num_ctx": 2048,
                "num_thread": 2,
                "num_predict": 5,
                "temperature": 0,
                "stop": ["\n"],
                "seed": 7,
            },
            "stream": True,
            "think": False,
            "truncate": False,
            "shift": False,
        }
    ]


def test_the_length_is_capped_also_when_nothing_is_asked(client: FlaskClient, stand_in: StandIn) -> None:
    client.post("/generate", json={"prompt": "Hi"})
    assert stand_in.chats()[0]["options"]["num_predict"] == 512


def test_a_capped_answer_says_so(client: FlaskClient) -> None:
    reply = client.post("/generate", json={"prompt": "Hi", "max_tokens": 2})
    assert (reply.json["response"], reply.json["finish_reason"]) == ("Hello, ", "length")


def test_a_stream_is_lines_and_ends_with_done(client: FlaskClient) -> None:
    reply = client.post("/generate", json={"prompt": "Hi", "stream": True}, buffered=True)
    assert reply.content_type == "application/x-ndjson"
    *pieces, last = [json.loads(line) for line in reply.text.splitlines()]
    assert pieces == [{"response": "Hello"}, {"response": ", "}, {"response": "world"}]
    assert last["done"] is True
    assert last["usage"] == {"prompt_tokens": 7, "completion_tokens": 3}
    assert set(last) == {"response", "done", "model", "finish_reason", "usage", "timings"}


def test_a_stream_is_events_for_who_accepts_them(client: FlaskClient) -> None:
    reply = client.post(
        "/generate", json={"prompt": "Hi", "stream": True}, headers={"Accept": "text/event-stream"}, buffered=True
    )
    assert reply.content_type == "text/event-stream"
    events = reply.text.split("\n\n")
    assert events.pop() == ""
    assert all(event.startswith("data: ") for event in events)
    assert json.loads(events[-1].removeprefix("data: "))["done"] is True


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "body: is empty"),
        (b"prompt=hi", "body: looks like a web form"),
        (b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nhi\r\n--x--', "body: is a multipart form"),
        (b"{", "JSON"),
        (b'{"prompt": "\xff"}', "JSON"),
        (b"[]", "body: must be a JSON object"),
        ({}, "prompt: is required"),
        ({"prompt": ""}, "prompt: must not be empty"),
        ({"prompt": " \n"}, "prompt: must not be empty"),
        ({"prompt": 5}, "prompt: must be a text"),
        ({"prompt": "x", "foo": 1}, "foo: is not supported"),
        ({"prompt": "x", "stream": "yes"}, "stream: "),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens: "),
        ({"prompt": "x", "max_tokens": "5"}, "max_tokens: "),
        ({"prompt": "x", "temperature": 2.5}, "temperature: must be less than or equal to 2"),
        (b'{"prompt": "x", "temperature": NaN}', "body: is not valid JSON: "),
        (b'{"prompt": "x", "temperature": 1e999}', "body: a number is too large"),
        (b'{"prompt": "x", "prompt": "y"}', "body: an object has the same name twice"),
        (b'{"prompt": "\\ud800"}', "body: is not valid JSON: "),
        ({"prompt": "x", "seed": -1}, "seed: "),
        ({"prompt": "x", "stop": [""]}, "stop[0]: "),
        ({"prompt": "x", "stop": ["a"] * 5}, "stop: must have at most 4 items, not 5"),
        ({"prompt": "x", "images": ["no!"]}, "images[0]: is not base64"),
        ({"prompt": "x", "images": ["aGVsbG8="]}, "images[0]: is not a PNG, JPEG, WebP or GIF image"),
        ({"prompt": "x", "images": ["https://example.com/a.png"]}, "images[0]: is a URL, which is never fetched"),
        ({"prompt": "x", "images": [png(1, 1)] * 5}, "5 images; at most 4"),
        ({"prompt": "x", "images": "abc"}, "images: "),
    ],
)
def test_bad_input_names_the_field(client: FlaskClient, stand_in: StandIn, body: Any, complaint: str) -> None:
    reply = client.post("/generate", data=body if isinstance(body, bytes) else json.dumps(body))
    assert reply.status_code == 400
    assert complaint in error_of(reply)["message"]
    assert not stand_in.chats()


def test_a_deeply_nested_body_is_refused(client: FlaskClient) -> None:
    reply = client.post("/generate", data=b'{"prompt": ' + b"[" * 100_000)
    assert reply.status_code == 400


def test_another_model_is_not_served(client: FlaskClient) -> None:
    reply = client.post("/generate", json={"prompt": "x", "model": "llama3"})
    assert (reply.status_code, error_of(reply)["code"]) == (404, "model_not_found")
    assert client.post("/generate", json={"prompt": "x", "model": f"{MODEL}:latest"}).status_code == 200


def test_too_long_a_prompt_is_told_the_limit(make_app: Callable[..., Flask]) -> None:
    client = make_app(max_prompt_chars=10).test_client()
    reply = client.post("/generate", json={"prompt": "x" * 8, "system": "abc"})
    assert (reply.status_code, error_of(reply)["code"]) == (413, "prompt_too_long")
    assert error_of(reply)["message"] == "prompt: 8 characters, 11 with the other fields; at most 10 are allowed"


def test_more_tokens_than_the_context_holds_are_the_callers_fault(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.error = (400, "the input length exceeds the context length")
    reply = client.post("/generate", json={"prompt": "x"})
    assert (reply.status_code, error_of(reply)["code"]) == (413, "prompt_too_long")


def test_a_body_over_the_limit_is_refused_unread(client: FlaskClient) -> None:
    reply = client.post("/generate", data=b"x" * (8 * 1024 * 1024 + 1))
    assert (reply.status_code, error_of(reply)["code"]) == (413, "body_too_large")
    assert "8388608 bytes" in error_of(reply)["message"]


def test_an_image_over_sixteen_megapixels_is_refused_by_its_header(client: FlaskClient) -> None:
    reply = client.post("/generate", json={"prompt": "x", "images": [png(4001, 4000)]})
    assert (reply.status_code, error_of(reply)["code"]) == (413, "image_too_large")
    assert "4001 by 4000" in error_of(reply)["message"]
    assert client.post("/generate", json={"prompt": "x", "images": [png(4000, 4000)]}).status_code == 200


def test_a_model_that_cannot_see_refuses_images(client: FlaskClient, app: Flask) -> None:
    app.extensions["sluice"].default.watch.capabilities = frozenset({"completion"})
    reply = client.post("/generate", json={"prompt": "x", "images": [png(1, 1)]})
    assert reply.status_code == 400
    assert "can't see images" in error_of(reply)["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/generate", 405),
        ("GET", "/nope", 404),
        ("GET", "/metrics", 404),
        ("GET", "/healthz", 404),
        ("GET", "/readyz", 404),
        ("POST", "/", 405),
    ],
)
def test_anything_else_on_the_public_port_is_a_json_error(
    client: FlaskClient, method: str, path: str, status: int
) -> None:
    reply = client.open(path, method=method)
    assert reply.status_code == status
    assert path in error_of(reply)["message"]
    assert ("Allow" in reply.headers) == (status == 405)


def test_the_request_id_is_kept_when_it_is_one(client: FlaskClient) -> None:
    assert client.get("/nope", headers={"X-Request-Id": "abc-1"}).headers["X-Request-Id"] == "abc-1"
    assert client.get("/nope", headers={"X-Request-Id": "a b"}).headers["X-Request-Id"] != "a b"


def test_an_unknown_priority_is_refused(client: FlaskClient) -> None:
    reply = client.post("/generate", json={"prompt": "x"}, headers={"X-Priority": "urgent"})
    assert reply.status_code == 400
    assert error_of(reply)["message"] == "X-Priority: must be interactive or batch"


def test_thoughts_come_only_where_they_are_asked_for(app: Flask, client: FlaskClient, stand_in: StandIn) -> None:
    app.extensions["sluice"].default.watch.capabilities = frozenset({"completion", "thinking"})
    stand_in.thoughts = ["Let me", " see."]
    whole = client.post("/generate", json={"prompt": "x", "think": True}).json
    assert (whole["response"], whole["thinking"]) == ("Hello, world", "Let me see.")
    lines = client.post(
        "/generate", json={"prompt": "x", "think": True, "stream": True}, buffered=True
    ).text.splitlines()
    pieces = [json.loads(line) for line in lines]
    assert pieces[:2] == [{"response": "", "thinking": "Let me"}, {"response": "", "thinking": " see."}]
    assert "".join(piece["response"] for piece in pieces) == "Hello, world"
    stand_in.always_thinks = True  # as gpt-oss does
    assert "thinking" not in client.post("/generate", json={"prompt": "x"}).text
    lines = client.post("/generate", json={"prompt": "x", "stream": True}, buffered=True).text.splitlines()
    assert not any("thinking" in json.loads(line) for line in lines)
    assert [chat["think"] for chat in stand_in.chats()] == [True, True, False, False]


def test_a_model_that_cannot_think_refuses_to(client: FlaskClient, stand_in: StandIn) -> None:
    reply = client.post("/generate", json={"prompt": "x", "think": True})
    assert reply.status_code == 400
    assert reply.json["error"]["message"] == f"think: {MODEL} does not support thinking"
    assert not stand_in.chats()


def test_thoughts_that_differ_are_no_repeats(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.always_thinks, stand_in.thoughts, stand_in.end_at = True, [f"{number} " for number in range(40)], 0
    reply = client.post("/generate", json={"prompt": "x"}, buffered=True)
    assert (reply.status_code, reply.json["error"]["code"]) == (502, "engine_failed")


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_repeats_one_token_without_end_is_cut_off_and_not_asked_for_again(
    client: FlaskClient, stand_in: StandIn, stream: bool
) -> None:
    stand_in.tokens, stand_in.end_at = ["na", *[" na"] * 40], 31
    reply = client.post("/generate", json={"prompt": "x", "stream": stream}, buffered=True)
    assert reply.status_code == 200
    last = json.loads(reply.text.splitlines()[-1])
    assert (last["finish_reason"], last["usage"]["completion_tokens"]) == ("length", 31)
    assert len(stand_in.chats()) == 1
    stand_in.end_at = 30
    last = json.loads(
        client.post("/generate", json={"prompt": "x", "stream": stream}, buffered=True).text.splitlines()[-1]
    )
    assert last["error"]["code"] == "engine_failed"
