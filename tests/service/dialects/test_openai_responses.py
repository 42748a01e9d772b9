import json
import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.dialects.openai_responses_body import ResponsesBody
from service.dialects.openai_responses_items import CallItem, MessageItem, conversation
from testbed.gateway import Served
from testbed.pictures import png, taken_image
from testbed.stand_in import MODEL, StandIn
from tests.support.errors import error_of

PARAMETERS: Any = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
ADD: Any = {"type": "function", "name": "add", "description": "adds", "parameters": PARAMETERS}
CALLED: Any = {"tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]}
CALL: Any = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'}
RESULT: Any = {"type": "function_call_output", "call_id": "c1", "output": "2"}
USER: Any = {"role": "user", "content": "Hi"}


def post(client: FlaskClient, given: Any = "Hi", **body: Any) -> Any:
    return client.post("/v1/responses", json={"model": MODEL, "input": given, **body}, buffered=True)


def events(reply: Any) -> list[Any]:
    """Return the events of a stream, each of which says its type and number twice."""
    found = []
    for number, text in enumerate(reply.text.removesuffix("\n\n").split("\n\n")):
        name, data = text.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert (name, event["sequence_number"]) == (f"event: {event['type']}", number)
        found.append(event)
    return found


def types(found: list[Any]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in found]


def test_a_whole_answer_has_all_that_openais_has(client: FlaskClient) -> None:
    answer = post(client, instructions="Be brief.", metadata={"a": "b"}, temperature=0.5, max_output_tokens=9_999).json
    assert (answer["object"], answer["status"], answer["model"]) == ("response", "completed", MODEL)
    [item] = answer["output"]
    [part] = item["content"]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
    assert part == {"type": "output_text", "text": "Hello, world", "annotations": [], "logprobs": []}
    assert answer["usage"]["input_tokens"] + answer["usage"]["output_tokens"] == answer["usage"]["total_tokens"] == 10
    assert (answer["instructions"], answer["metadata"], answer["temperature"]) == ("Be brief.", {"a": "b"}, 0.5)
    assert (answer["max_output_tokens"], answer["store"], answer["error"]) == (512, False, None)
    assert answer["created_at"] <= answer["completed_at"]
    openai.types.responses.Response.model_validate(answer, strict=False)


def test_every_supported_field_reaches_ollama(client: FlaskClient, stand_in: StandIn) -> None:
    seen = {"type": "input_image", "image_url": f"data:image/png;base64,{png(3, 3)}", "detail": "auto"}
    parts = [{"type": "input_text", "text": "What "}, {"type": "input_text", "text": "is it?"}, seen]
    items = [
        {"type": "message", "role": "developer", "content": "Be kind."},
        {"role": "user", "content": parts},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None},
        {"type": "item_reference", "id": "rs_2"},
        {"id": "rs_3", "type": None},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "One"}], "phase": None},
        {**CALL, "status": "completed"},
        {**CALL, "call_id": "c2", "arguments": ""},
        {"role": "assistant", "content": "moment."},
        RESULT,
        {**RESULT, "call_id": "c2", "output": [{"type": "input_text", "text": "3"}]},
        {"role": "user", "content": "And now?"},
    ]
    form = {"type": "json_schema", "name": "a", "strict": True, "schema": PARAMETERS}
    sampling = {"temperature": 0.5, "top_p": 0.9}
    reply = post(
        client, items, instructions="Be brief.", max_output_tokens=9, tools=[ADD], text={"format": form}, **sampling
    )
    assert reply.status_code == 200, reply.json
    [chat] = stand_in.chats()
    assert taken_image(chat["messages"][2]).size == (32, 32)
    call = {"id": "c1", "function": {"name": "add", "arguments": {"a": 1}}}
    no_arguments = {"id": "c2", "function": {"name": "add", "arguments": {}}}
    assert chat["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": "One\nmoment.", "tool_calls": [call, no_arguments]},
        {"role": "tool", "content": "2", "tool_call_id": "c1", "tool_name": "add"},
        {"role": "tool", "content": "3", "tool_call_id": "c2", "tool_name": "add"},
        {"role": "user", "content": "And now?"},
    ]
    assert chat["options"] == {"num_ctx": 2048, "num_thread": 2, "num_predict": 9, **sampling, "stop": []}
    assert chat["format"] == {**PARAMETERS, "additionalProperties": False}
    function = {name: ADD[name] for name in ("name", "description", "parameters")}
    assert chat["tools"] == [{"type": "function", "function": function}]


@pytest.mark.parametrize(
    "body",
    [
        {"store": True, "user": "u", "metadata": {"a": "b"}, "service_tier": "auto", "prompt_cache_key": "k"},
        {"safety_identifier": "s", "truncation": "auto", "top_logprobs": 0, "background": False, "max_tool_calls": 3},
        {"include": ["reasoning.encrypted_content"], "text": {"verbosity": "low"}, "stream_options": None},
        {"previous_response_id": None, "conversation": None, "prompt": None, "tools": None, "tool_choice": "none"},
        {"stream_options": {"include_obfuscation": False}, "reasoning": {"effort": "low", "summary": "auto"}},
    ],
)
def test_what_changes_no_answer_is_accepted(client: FlaskClient, stand_in: StandIn, body: Any) -> None:
    assert post(client, **body).status_code == 200
    [asked] = stand_in.chats()
    assert asked.keys() == {*("model", "messages", "stream", "think", "truncate", "shift", "keep_alive", "options")}


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id: is not supported: nothing is stored here"),
        ({"conversation": "conv_1"}, "conversation: is not supported: nothing is stored here"),
        ({"prompt": {"id": "p"}}, "prompt: is not supported: nothing is stored here"),
        ({"background": True}, "background: must be false"),
        ({"input": [USER, {"type": "item_reference", "id": "msg_1"}]}, "input[1]: refers to an item that isn't kept"),
        ({"input": [{"id": "msg_1"}]}, "input[0]: refers to an item that isn't kept"),
        ({"input": [{"type": "item_reference"}]}, "input[0]: refers to an item that isn't kept"),
        ({"input": [{"type": "computer_call"}]}, "input[0]: must be a message, function_call, "),
        ({"input": [5]}, "input[0]: must be a message, function_call, "),
        ({"input": []}, "input: "),
        ({"input": ""}, "input: must not be empty or blank"),
        ({"reasoning": {"effort": "much"}}, "'medium', 'high', 'xhigh' or 'max'"),
        ({"input": 5}, "input: must be a text or a list"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content: must be a text or a list"),
        (
            {"reasoning": {"foo": 1}},
            "reasoning.foo: is not supported (fields: effort, summary, ",
        ),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]: 'type' must be "),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://a/b.png"}]}]},
            "input[0].content[0].image_url: must be a data URL",
        ),
        ({"input": [USER, {**CALL, "arguments": "[]"}]}, "input[1].arguments: must be a JSON object"),
        ({"input": [{**USER, "content": "x" * 20_000}]}, "input[0].content: 20000 characters"),
        ({"instructions": "x" * 20_000}, "instructions: 20000 characters"),
        ({"input": [{**CALL, "arguments": "x" * 20_000}]}, "input[0].arguments: 20000 characters"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type: must be 'function'"),
        ({"tools": [{**ADD, "parameters": {"type": "strin"}}]}, "tools[0].parameters.type: "),
        ({"tool_choice": {"type": "function", "name": "sub"}, "tools": [ADD]}, "tool_choice: 'sub' is none"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema: is required"),
        ({"text": {"format": {"type": "json_schema", "schema": {"type": "x"}}}}, "text.format.schema.type: "),
        ({"include": ["message.output_text.logprobs"]}, "include[0]: "),
        ({"top_logprobs": 5}, "top_logprobs: "),
        ({"metadata": {"k" * 65: "v"}}, "must have at most 64 characters"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k: "),
        ({"metadata": {f"k{i}": "v" for i in range(17)}}, "metadata: "),
        ({"moderation": {}}, "moderation: is not supported"),
        ({"model": "gpt-5"}, "model: this server serves stand-in only"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    client: FlaskClient, stand_in: StandIn, body: Any, complaint: str
) -> None:
    reply = post(client, **body)
    assert reply.status_code == (404 if "model" in body else 400)
    assert complaint in error_of(reply)["message"]
    assert not stand_in.chats()


def test_a_stream_tells_every_step_in_its_order(client: FlaskClient) -> None:
    found = events(post(client, stream=True))
    assert types(found) == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta",) * 3,
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    first, last = found[0]["response"], found[-1]["response"]
    assert (first["status"], first["output"], first["usage"]) == ("in_progress", [], None)
    assert "".join(event.get("delta", "") for event in found) == "Hello, world"
    assert last["output"] == [found[-2]["item"]]
    assert last["output"][0]["content"] == [found[-3]["part"]]
    whole = post(client).json
    assert {name: last[name] for name in ("usage", "status")} == {name: whole[name] for name in ("usage", "status")}
    assert last.keys() == whole.keys()


def test_calls_of_tools_are_items_of_their_own(client: FlaskClient, stand_in: StandIn) -> None:
    two = {"tool_calls": CALLED["tool_calls"] * 2}
    stand_in.script = [{"content": "Let me see.", **two}] * 2
    whole = post(client, tools=[ADD]).json["output"]
    streamed = events(post(client, tools=[ADD], stream=True))
    assert [item["type"] for item in whole] == ["message", "function_call", "function_call"]
    assert [(item["name"], item["arguments"]) for item in whole[1:]] == [("add", '{"a": 1}')] * 2
    calls = [*whole[1:], *streamed[-1]["response"]["output"][1:]]
    assert len({call[name] for call in calls for name in ("id", "call_id")}) == 8
    steps = ("output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done")
    assert types(streamed)[-9:] == [*steps, *steps, "completed"]
    added, delta, done, ended = streamed[-5:-1]
    assert (added["item"]["arguments"], added["item"]["status"], added["output_index"]) == ("", "in_progress", 2)
    assert delta["delta"] == done["arguments"] == ended["item"]["arguments"]
    assert delta["item_id"] == done["item_id"] == ended["item"]["id"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("summary", "thinks"), [("auto", True), (None, False)])
def test_thoughts_come_as_a_summary_if_they_were_asked_for(
    app: Flask, client: FlaskClient, stand_in: StandIn, stream: bool, summary: str | None, thinks: bool
) -> None:
    app.extensions["sluice"].default.watch.capabilities = frozenset({"completion", "thinking"})
    stand_in.thoughts = ["Let me", " see."]
    reply = post(client, reasoning={"effort": "high", "summary": summary}, stream=stream)
    assert stand_in.chats()[0]["think"] == "high"
    output = events(reply)[-1]["response"]["output"] if stream else reply.json["output"]
    *thoughts, message = output
    assert [item["summary"][0]["text"] for item in thoughts] == ["Let me see."] * thinks
    assert message["content"][0]["text"] == "Hello, world"
    if stream and thinks:
        assert types(events(reply))[2:10] == [
            *("output_item.added", "reasoning_summary_part.added"),
            *("reasoning_summary_text.delta",) * 2,
            *("reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done", "output_item.added"),
        ]


@pytest.mark.parametrize(
    ("reasoning", "think"),
    [
        (None, False),
        ({}, False),
        ({"effort": "none", "summary": "auto"}, False),
        ({"summary": "auto"}, True),
        ({"effort": "minimal"}, "low"),
        ({"effort": "max"}, "max"),
    ],
)
def test_a_model_thinks_as_much_as_it_is_asked_to(
    app: Flask, client: FlaskClient, stand_in: StandIn, reasoning: Any, think: Any
) -> None:
    app.extensions["sluice"].default.watch.capabilities = frozenset({"completion", "thinking"})
    assert post(client, reasoning=reasoning).status_code == 200
    assert stand_in.chats()[0]["think"] == think


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_at_its_limit_is_incomplete(client: FlaskClient, stream: bool) -> None:
    reply = post(client, max_output_tokens=2, stream=stream)
    last = events(reply)[-1] if stream else {"type": "response.incomplete", "response": reply.json}
    answer = last["response"]
    assert (last["type"], answer["status"]) == ("response.incomplete", "incomplete")
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}
    assert answer["output"][0]["status"] == "incomplete"


def test_an_empty_answer_is_an_empty_message(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.tokens = []
    assert post(client).json["output"][0]["content"][0]["text"] == ""
    assert types(events(post(client, stream=True)))[2:4] == ["output_item.added", "content_part.added"]


def test_a_stream_that_breaks_off_says_so_in_both_forms(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.error_at = 1
    *_, failed, error = events(post(client, stream=True))
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert failed["response"]["error"]["code"] == "server_error"
    assert (error["type"], error["code"], error["error"]["code"]) == ("error", "engine_failed", "engine_failed")
    assert error["message"] == error["error"]["message"] == failed["response"]["error"]["message"]


def test_what_was_sent_of_images_is_forgotten_before_the_request_waits(app: Flask) -> None:
    picture = png(3, 3)
    part = {"type": "input_image", "image_url": f"data:;base64,{picture}"}
    body = ResponsesBody.model_validate({"model": MODEL, "input": [{"role": "user", "content": [part]}]})
    question = body.question()
    question.for_ollama(app.extensions["sluice"].default)
    assert picture not in repr(question)
    assert picture not in repr(body.told(5))


@pytest.mark.parametrize("path", ["resp_1", "resp_1/input_items", "resp_1/cancel"])
@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_nothing_is_stored(client: FlaskClient, path: str, method: str) -> None:
    if method == "POST" and path != "resp_1/cancel":
        return
    reply = client.open(f"/v1/responses/{path}", method=method)
    assert (reply.status_code, error_of(reply)["code"]) == (404, "not_found")
    assert "nothing is stored here" in error_of(reply)["hint"]


def test_long_texts_of_one_turn_are_not_copied_before_their_sizes_are_checked() -> None:
    text = "😀" + "x" * 8000
    call = CallItem.model_validate(CALL)
    said = [MessageItem.model_validate({"role": "assistant", "content": text}) for _ in range(100)]
    tracemalloc.start()
    [turn] = conversation([call, *said])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * sys.getsizeof(text)
    assert turn.for_ollama()["content"] == "\n".join([text] * 100)


class Sum(pydantic.BaseModel):
    a: int


@pytest.fixture
def official(shared: Served, engine: StandIn) -> Iterator[openai.OpenAI]:
    engine.renew()
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_the_official_client_goes_on_with_what_it_got(official: openai.OpenAI, engine: StandIn) -> None:
    engine.script = [{"content": "Let me see.", **CALLED}, "It is 2."]
    first = official.responses.create(model=MODEL, input="1 + 1?", tools=[ADD])
    message, call = first.output
    assert (first.output_text, first.usage.total_tokens) == ("Let me see.", 8)
    asked: Any = [{"role": "user", "content": "1 + 1?"}]
    for answered in (first.output, first.model_dump()["output"]):
        engine.script = ["It is 2."]
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "2"}
        second = official.responses.create(model=MODEL, input=[*asked, *answered, result], tools=[ADD])
        assert second.output_text == "It is 2."
        turn = engine.chats()[-1]["messages"][1]
        called = {"id": call.call_id, "function": {"name": "add", "arguments": {"a": 1}}}
        assert turn == {"role": "assistant", "content": "Let me see.", "tool_calls": [called]}
    assert message.id != call.id


def test_the_official_client_streams(official: openai.OpenAI, engine: StandIn) -> None:
    with official.responses.stream(model=MODEL, input="Hi") as stream:
        assert "".join(each.delta for each in stream if each.type == "response.output_text.delta") == "Hello, world"
        assert stream.get_final_response().output_text == "Hello, world"
    engine.script = [CALLED]
    with official.responses.stream(model=MODEL, input="Hi", tools=[ADD]) as stream:
        [call] = stream.get_final_response().output
        assert (call.name, call.parsed_arguments) == ("add", None)
    engine.error_at = 1
    with pytest.raises(openai.APIError, match="the model server failed") as error:
        list(official.responses.create(model=MODEL, input="Hi", stream=True))
    assert error.value.code == "engine_failed"


def test_the_official_client_parses_and_takes_back_what_it_parsed(official: openai.OpenAI, engine: StandIn) -> None:
    engine.script = ['{"a": 2}', '{"a": 3}']
    parsed = official.responses.parse(model=MODEL, input="1 + 1?", text_format=Sum)
    assert parsed.output_parsed == Sum(a=2)
    again: Any = [
        {"role": "user", "content": "1 + 1?"},
        *parsed.model_dump()["output"],
        {"role": "user", "content": "+1"},
    ]
    assert official.responses.parse(model=MODEL, input=again, text_format=Sum).output_parsed == Sum(a=3)


def test_the_official_client_learns_that_nothing_is_stored(official: openai.OpenAI) -> None:
    for ask in (official.responses.retrieve, official.responses.delete, official.responses.cancel):
        with pytest.raises(openai.NotFoundError, match="nothing is stored here"):
            ask("resp_1")
    with pytest.raises(openai.BadRequestError, match="send the earlier items in input") as error:
        official.responses.create(model=MODEL, input="Hi", previous_response_id="resp_1")
    assert (error.value.param, error.value.code) == ("previous_response_id", "invalid_request")
