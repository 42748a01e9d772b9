import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from testbed.stand_in import MODEL, StandIn
from tests.support.errors import error_of


def post(client: FlaskClient, **body: Any) -> Any:
    return client.post("/v1/completions", json={"model": MODEL, "prompt": "Hi", **body}, buffered=True)


def test_a_prompt_is_answered_as_a_users_message(client: FlaskClient, stand_in: StandIn) -> None:
    sampling = {"temperature": 0.5, "top_p": 0.9, "frequency_penalty": 1, "presence_penalty": -1, "seed": 3}
    for prompt, stop in (("Hi", "x"), (["Hi"], ["x"])):
        answer = post(client, prompt=prompt, max_tokens=99, stop=stop, **sampling).json
        choice = {"index": 0, "text": "Hello, world", "logprobs": None, "finish_reason": "stop"}
        assert (answer["object"], answer["model"], answer["choices"]) == ("text_completion", MODEL, [choice])
        assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        asked = stand_in.chats()[-1]
        assert asked["messages"] == [{"role": "user", "content": "Hi"}]
        assert asked["options"] == {"num_ctx": 2048, "num_thread": 2, "num_predict": 99, **sampling, "stop": ["x"]}


def test_a_stream_is_the_same_answer_in_pieces(client: FlaskClient) -> None:
    *lines, done = post(client, stream=True, stream_options={"include_usage": True}).text.split("\n\n")[:-1]
    assert done == "data: [DONE]"
    *pieces, last = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert len({piece["id"] for piece in (*pieces, last)}) == 1
    assert "".join(piece["choices"][0]["text"] for piece in pieces) == "Hello, world"
    assert [piece["choices"][0]["finish_reason"] for piece in pieces] == [None, None, None, "stop"]
    assert (last["choices"], last["usage"]["total_tokens"], pieces[0]["usage"]) == ([], 10, None)


def test_the_limit_ends_an_answer(client: FlaskClient) -> None:
    [choice] = post(client, max_tokens=2).json["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("Hello, ", "length")


def test_thoughts_are_no_part_of_the_text(app: Flask, client: FlaskClient, stand_in: StandIn) -> None:
    app.extensions["sluice"].default.watch.capabilities = frozenset({"completion", "thinking"})
    stand_in.thoughts, stand_in.always_thinks = ["Hm."], True
    assert post(client).json["choices"][0]["text"] == "Hello, world"
    assert "Hm." not in post(client, stream=True).text


@pytest.mark.parametrize(
    "body",
    [
        {"n": 1, "best_of": 1, "echo": False, "logprobs": None, "suffix": None, "user": "u", "logit_bias": {}},
        {"logprobs": 0, "stream_options": {"include_obfuscation": False}},
    ],
)
def test_what_changes_no_answer_is_accepted(client: FlaskClient, body: Any) -> None:
    assert post(client, **body).status_code == 200


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"prompt": [1, 2]}, "prompt: token numbers stand for another text in each vocabulary, so send texts"),
        ({"prompt": [[1, 2]]}, "prompt: token numbers stand"),
        ({"prompt": ["a", "b"]}, "prompt: must have at most 1 item"),
        ({"prompt": []}, "prompt: "),
        ({"prompt": " "}, "prompt: must not be empty"),
        ({"prompt": [" "]}, "prompt[0]: must not be empty"),
        ({"prompt": None}, "prompt: is required"),
        ({"suffix": "x"}, "suffix: is not supported: a prompt is answered, not filled in"),
        ({"echo": True}, "echo: must be false"),
        ({"prompt": 5}, "prompt: must be a text or a list"),
        ({"logprobs": 1}, "logprobs: "),
        ({"n": 2}, "n: "),
        ({"best_of": 2}, "best_of: "),
        ({"logit_bias": {"5": 1}}, "logit_bias: "),
        ({"top_k": 5}, "top_k: is not supported"),
        ({"prompt": ["x" * 20_000]}, "prompt[0]: 20000 characters"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    client: FlaskClient, stand_in: StandIn, body: Any, complaint: str
) -> None:
    reply = post(client, **body)
    assert reply.status_code == 400
    assert error_of(reply)["message"].startswith(complaint)
    assert not stand_in.chats()


def test_a_stream_that_breaks_off_ends_with_the_error(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.error_at = 1
    *_, last = post(client, stream=True).text.split("\n\n")[:-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "engine_failed"
