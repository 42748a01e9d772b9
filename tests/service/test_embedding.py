from typing import Any

import pytest
from flask.testing import FlaskClient

from service import embedding
from service.reply import Reply
from testbed.stand_in import MODEL, StandIn
from tests.support.errors import error_of


def post(client: FlaskClient, given: Any, **body: Any) -> Any:
    return client.post("/v1/embeddings", json={"model": MODEL, "input": given, **body}, buffered=True)


def test_many_texts_are_computed_a_few_at_a_time_in_one_slot(client: FlaskClient, stand_in: StandIn) -> None:
    texts = [str(number) for number in range(2048)]
    reply = post(client, texts)
    assert reply.status_code == 200
    asked = [body["input"] for path, body in stand_in.requests if path == "/api/embed"]
    assert {len(each) for each in asked} == {embedding.BATCH}
    assert [text for each in asked for text in each] == texts
    assert [each["index"] for each in reply.json["data"]] == list(range(2048))
    assert reply.json["usage"] == {"prompt_tokens": 3 * len(asked), "total_tokens": 3 * len(asked)}
    gateway = client.application.extensions["sluice"].default
    assert gateway.metrics.admitted._value.get() == 1


def test_more_numbers_than_fit_are_refused_before_they_are_computed(
    client: FlaskClient, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "MAX_NUMBERS", 200)  # of which each text has two
    assert post(client, ["x"] * 100).status_code == 200
    stand_in.requests.clear()
    reply = post(client, ["x"] * 101)
    assert (reply.status_code, error_of(reply)["param"]) == (400, "input")
    assert error_of(reply)["message"].startswith("input: 101 texts of 2 numbers each; at most 100 are allowed")
    assert len(stand_in.requests) == 1


def test_what_was_computed_before_an_answer_broke_off_is_charged(
    client: FlaskClient, stand_in: StandIn, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "MAX_NUMBERS", 200)
    caplog.set_level("INFO", "sluice.request")
    assert post(client, ["x"] * 101).status_code == 400
    assert caplog.records[-1].fields["prompt_tokens"] == 3  # type: ignore[attr-defined]
    assert client.application.extensions["sluice"].default.metrics.prompt_tokens._value.get() == 3


def test_blanks_are_a_text_as_for_openai(client: FlaskClient, stand_in: StandIn) -> None:
    assert [post(client, given).status_code for given in (["a", " "], "\n")] == [200, 200]
    assert [body["input"] for path, body in stand_in.requests if path == "/api/embed"] == [["a", " "], ["\n"]]


@pytest.mark.parametrize("vectors", [None, [], [[0.6]], [["a"], ["b"]], [[], []], "ab", [5, 5]])
def test_an_odd_answer_is_the_engines_fault(
    client: FlaskClient, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, vectors: Any
) -> None:
    monkeypatch.setattr(Reply, "json", lambda reply: {"embeddings": vectors})
    reply = post(client, ["a", "b"])
    assert (reply.status_code, error_of(reply)["code"]) == (502, "engine_failed")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ([1, 2, 3], "input: token numbers stand for another text in each vocabulary, so send texts (in LangChain: "),
        ([[1, 2], [3]], "input: token numbers stand"),
        (["a", ""], "input[1]: must not be empty"),
        (["a", 5], "input[1]: "),
        ([True], "input[0]: "),
        (["x"] * 2049, "input: must have at most 2048 items, not 2049"),
        ([], "input: "),
        ("", "input: must not be empty"),
        (5, "input"),
        (["x" * 20_000, "y"], "input[0]: 20000 characters, 20001 with the other fields"),
    ],
)
def test_bad_input_names_the_field(client: FlaskClient, stand_in: StandIn, given: Any, complaint: str) -> None:
    reply = post(client, given, user="u")
    assert reply.status_code == 400
    assert error_of(reply)["message"].startswith(complaint)
    assert not [path for path, _ in stand_in.requests if path == "/api/embed"]
