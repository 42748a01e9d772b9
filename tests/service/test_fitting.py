import json
import subprocess
from contextlib import ExitStack
from threading import Thread
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service import fitting
from service.client import ClientConnection
from service.dialects.openai_chat_body import ChatBody
from service.errors import InvalidRequest, Saturated
from service.fit_checks import TOO_HARD, TURNS
from service.fitting import Places, Schema, check_schemas
from service.gateway import Caller
from service.grammar_budget import Budget
from service.request_log import RequestLog
from service.schemas import safe_schema
from testbed.stand_in import MODEL, StandIn
from testbed.waiting import eventually
from tests.support.errors import error_of


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


HI: Any = [{"role": "user", "content": "Hi"}]
LOOKAHEAD = {"type": "object", "properties": {"e": {"type": "string", "pattern": "^(?=.*x).*$"}}, "required": ["e"]}
PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
ADD = {"name": "add", "description": "adds", "parameters": PARAMETERS}
ODD = {
    "name": "odd",
    "parameters": {"type": "object", "properties": {"n": {"type": "integer", "not": {"multipleOf": 2}}}},
}


def ask(client: FlaskClient, **body: Any) -> Any:
    return client.post("/v1/chat/completions", json={"model": MODEL, "messages": HI, **body}, buffered=True)


def form(schema: Any) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "p", "schema": schema}}


def tools(*functions: Any, strict: bool = False) -> Any:
    return [{"type": "function", "function": {**each, "strict": strict}} for each in functions]


def call(name: str, **arguments: Any) -> Any:
    return {"tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


def called(reply: Any) -> list[tuple[str, Any]]:
    assert reply.status_code == 200, reply.json
    calls = reply.json["choices"][0]["message"]["tool_calls"]
    return [(each["function"]["name"], json.loads(each["function"]["arguments"])) for each in calls]


def test_an_answer_that_does_not_fit_is_made_again_with_what_was_wrong(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.script = ['{"e": "y"}', "nothing", '{"e": "xy"}']
    reply = ask(client, response_format=form(LOOKAHEAD))
    assert reply.json["choices"][0]["message"]["content"] == '{"e": "xy"}'
    assert reply.json["usage"] == {"prompt_tokens": 21, "completion_tokens": 3, "total_tokens": 24}
    first, second, third = stand_in.chats()
    held = {**LOOKAHEAD, "properties": {"e": {"type": "string"}}, "additionalProperties": False}
    assert first["format"] == second["format"] == held
    complaint = "That answer doesn't fit `pattern` at /e. Answer again, with JSON that fits."
    said = {"role": "assistant", "content": '{"e": "y"}'}
    assert second["messages"] == [*HI, said, {"role": "user", "content": complaint}]
    assert "That answer is no JSON." in third["messages"][-1]["content"]


def test_a_model_that_never_fits_is_an_honest_error(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.script = ['{"e": "y"}'] * 4
    reply = ask(client, response_format=form(LOOKAHEAD))
    assert (reply.status_code, error_of(reply)["code"], "Retry-After" in reply.headers) == (422, "unfit_answer", False)
    message = "the model gave no answer that fits in 3 tries: it doesn't fit `pattern` at /e"
    assert error_of(reply)["message"] == f"response_format.json_schema.schema: {message}"
    assert len(stand_in.chats()) == 3


def test_only_so_many_requests_wait_for_their_schemas_to_be_checked(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places(1)
    monkeypatch.setattr(fitting, "PLACES", places)
    with places.take(None):
        reply = ask(client, response_format=form(LOOKAHEAD))
        assert (reply.status_code, error_of(reply)["code"], reply.headers["Retry-After"]) == (503, "saturated", "1")
        assert ask(client, response_format=form(PARAMETERS)).status_code == 200  # the grammar enforces all of it
    assert ask(client, response_format=form(LOOKAHEAD)).status_code == 422
    assert ask(client, response_format=form(LOOKAHEAD)).status_code == 422


class Waiting(ClientConnection):
    """A connection that says whether its request has nothing left to do but to wait."""

    def __init__(self) -> None:
        super().__init__(None)
        self.is_settled = False

    def settled(self) -> None:
        self.is_settled = True


@pytest.mark.parametrize(
    "more", [{"response_format": form(LOOKAHEAD)}, {"tools": tools(ODD), "tool_choice": "required"}]
)
def test_a_request_lets_other_large_ones_go_on_while_its_schemas_wait(app: Flask, more: dict[str, Any]) -> None:
    question = ChatBody.model_validate({"model": MODEL, "messages": HI, **more}).question()
    client = Waiting()
    caller = Caller(client, RequestLog("", "POST", "/"))
    asking = Thread(target=question.for_ollama, args=(app.extensions["sluice"].default, caller))
    with TURNS.take(answer=False):
        asking.start()
        eventually(lambda: client.is_settled)
        assert asking.is_alive()
    asking.join(60)


def test_a_key_takes_half_of_the_places_for_schemas_at_most() -> None:
    places = Places(4)
    with ExitStack() as stack:
        for key in ("greedy", "greedy", "other"):
            stack.enter_context(places.take(key))
        with pytest.raises(Saturated):
            stack.enter_context(places.take("greedy"))
        with places.take("third"), pytest.raises(Saturated):
            stack.enter_context(places.take("fourth"))
    with places.take("greedy"):  # the places are free again
        pass


def test_an_answer_is_checked_before_all_schemas_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    checking, checked, run = schema(LOOKAHEAD), list[Any](), subprocess.run

    def note(*args: Any, **options: Any) -> Any:
        checked.append(json.loads(options["input"])[0][1])
        return run(*args, **options)

    monkeypatch.setattr("service.fit_checks.subprocess.run", note)
    threads = [Thread(target=check_schemas, args=([checking], None)) for _ in range(4)]
    threads.append(Thread(target=checking.misses, args=({"e": "x"},)))
    with TURNS.take(answer=False):
        for thread in threads:
            thread.start()
        eventually(lambda: TURNS.answers == 1)
    for thread in threads:
        thread.join(60)
    assert checked == [[{"e": "x"}], [], [], [], []]


def test_a_stream_that_must_be_checked_comes_once_it_fits(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.script = ['{"e": "y"}', '{"e": "x"}']
    text = ask(client, response_format=form(LOOKAHEAD), stream=True).text
    assert '"y' not in text
    assert text.endswith("data: [DONE]\n\n")
    assert json.dumps('{"e": "x"}') in text


def test_an_answer_that_is_cut_off_is_not_made_again(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.script = ['{"e": ']
    reply = ask(client, response_format=form(LOOKAHEAD), max_tokens=1)
    assert reply.json["choices"][0]["finish_reason"] == "length"
    assert len(stand_in.chats()) == 1


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
def test_a_call_is_forced_by_the_grammar(client: FlaskClient, stand_in: StandIn, choice: Any) -> None:
    stand_in.capabilities = ["completion"]
    stand_in.script = ['{"name": "add", "arguments": {"a": 3}}']
    reply = ask(client, tools=tools(ADD, {"name": "stop"}), tool_choice=choice)
    assert called(reply) == [("add", {"a": 3})]
    assert reply.json["choices"][0]["finish_reason"] == "tool_calls"
    [sent] = stand_in.chats()
    assert "tools" not in sent
    assert sent["messages"][1:] == HI
    assert json.dumps(ADD) in sent["messages"][0]["content"]
    shut = {"type": "object", "required": ["name", "arguments"], "additionalProperties": False}
    add = {
        **shut,
        "properties": {"name": {"enum": ["add"]}, "arguments": {**PARAMETERS, "additionalProperties": False}},
    }
    stop = {**shut, "properties": {"name": {"enum": ["stop"]}, "arguments": {"type": "object"}}}
    assert sent["format"] == ({"anyOf": [add, stop]} if choice == "required" else add)


def test_a_forced_call_is_streamed_whole_and_its_arguments_are_checked(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.script = ['{"name": "odd", "arguments": {"n": 2}}', '{"name": "odd", "arguments": {"n": 3}}']
    text = ask(client, tools=tools(ODD), tool_choice="required", stream=True).text
    [chunk] = [line for line in text.splitlines() if "tool_calls" in line and "arguments" in line]
    assert json.loads(chunk[6:])["choices"][0]["delta"]["tool_calls"][0]["function"] == {
        "name": "odd", "arguments": '{"n": 3}'
    }  # fmt: skip


def test_a_tool_that_is_not_there_cannot_be_chosen(client: FlaskClient, stand_in: StandIn) -> None:
    choice = {"type": "function", "function": {"name": "sub"}}
    reply = ask(client, tools=tools(ADD), tool_choice=choice)
    assert (reply.status_code, error_of(reply)["message"]) == (400, "tool_choice: 'sub' is none of the tools")
    assert ask(client, tool_choice="required").status_code == 400
    assert not stand_in.chats()


def test_arguments_of_a_strict_tool_that_do_not_fit_are_made_again(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.script = [call("add", a="three"), '{"name": "add", "arguments": {"a": 3}}']
    assert called(ask(client, tools=tools(ADD, strict=True))) == [("add", {"a": 3})]
    first, second = stand_in.chats()
    assert "tools" in first
    assert "tools" not in second
    assert second["format"]["properties"]["name"] == {"enum": ["add"]}
    assert ("stop" in first["options"], second["options"]["stop"]) == (False, [])
    assert "doesn't fit `type` at /a" in second["messages"][-1]["content"]
    stand_in.script = [call("add", a="three")]
    assert called(ask(client, tools=tools(ADD))) == [("add", {"a": "three"})]  # one that isn't strict is left as it is


def test_text_before_a_strict_call_is_streamed(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.script = [{"content": "I add.", **call("add", a=1)}]
    assert "I add." in ask(client, tools=tools(ADD, strict=True), stream=True).text


def test_without_parallel_calls_there_is_one(client: FlaskClient, stand_in: StandIn) -> None:
    two = {"tool_calls": [*call("add", a=1)["tool_calls"], *call("add", a=2)["tool_calls"]]}
    stand_in.script = [two, two]
    assert called(ask(client, tools=tools(ADD), parallel_tool_calls=False)) == [("add", {"a": 1})]
    assert called(ask(client, tools=tools(ADD))) == [("add", {"a": 1}), ("add", {"a": 2})]


def test_ids_of_calls_differ_from_turn_to_turn(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.message = call("add", a=1)
    ids = [
        each["id"]
        for _ in range(2)
        for each in ask(client, tools=tools(ADD)).json["choices"][0]["message"]["tool_calls"]
    ]
    assert len(ids) == len(set(ids)) > 2


def schema(whole: Any) -> Schema:
    return Schema("schema", whole, safe_schema("schema", whole, Budget()))


MORE_THAN_TWO = {"type": "object", "minProperties": 3}


def test_an_answer_beside_tools_fits_its_schema_too(client: FlaskClient, stand_in: StandIn) -> None:
    for more in ({"tools": tools(ADD, strict=True)}, {"tools": tools(ADD), "parallel_tool_calls": False}):
        stand_in.script = ["Hello", '{"a": 1, "b": 2, "c": 3}']
        reply = ask(client, response_format=form(MORE_THAN_TWO), **more)
        assert json.loads(reply.json["choices"][0]["message"]["content"]) == {"a": 1, "b": 2, "c": 3}


def test_a_call_beside_a_schema_is_an_answer(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.script = [call("add", a=1)]
    assert called(ask(client, response_format=form(MORE_THAN_TWO), tools=tools(ADD))) == [("add", {"a": 1})]


@pytest.mark.parametrize(
    "said",
    [
        '{"name": "add"}',
        '{"name": ["add"], "arguments": {"a": 1}}',
        '{"name": "add", "arguments": "a"}',
        '{"name": "add", "arguments": {"a": 1e999}}',
        '{"name": "add", "arguments": {"a": NaN}}',
        f'{{"name": "add", "arguments": {{"a": {deep(970)}}}}}',
        "[" * 100_000,
        "add",
    ],
)
def test_what_is_no_call_is_asked_for_again(client: FlaskClient, stand_in: StandIn, said: str) -> None:
    stand_in.script = [said, '{"name": "add", "arguments": {"a": 1}}']
    assert called(ask(client, tools=tools(ADD), tool_choice="required")) == [("add", {"a": 1})]


@pytest.mark.parametrize(
    "said",
    ["no", deep(201), deep(970), deep(975), deep(980), "[" * 100_000, "7" * 5000, '{"a": 1, "b": 2, "c": Infinity}'],
)
def test_what_is_no_json_fits_no_schema(client: FlaskClient, stand_in: StandIn, said: str) -> None:
    stand_in.script = [said] * 3
    reply = ask(client, response_format=form({"minProperties": 3}))
    assert (reply.status_code, error_of(reply)["code"]) == (422, "unfit_answer")
    assert "is no JSON" in error_of(reply)["message"]


def test_json_of_two_hundred_levels_is_an_answer(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.script = [deep(200)]
    assert ask(client, response_format=form({"minProperties": 3})).status_code == 200


@pytest.mark.parametrize("levels", [201, 900])
def test_arguments_that_are_nested_too_deeply_fit_no_strict_tool(
    client: FlaskClient, stand_in: StandIn, levels: int
) -> None:
    stand_in.script = [call("add", a=json.loads(deep(levels))), '{"name": "add", "arguments": {"a": 3}}']
    assert called(ask(client, tools=tools(ADD, strict=True))) == [("add", {"a": 3})]


def test_a_schema_that_is_too_hard_to_check_is_refused_after_one_answer(client: FlaskClient, stand_in: StandIn) -> None:
    doubled = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}
    stand_in.script = ['"a"'] * 3
    hard = {"$defs": {**doubled, "d40": {"type": "string"}}, "$ref": "#/$defs/d0"}
    reply = ask(client, response_format=form(hard))
    assert (reply.status_code, TOO_HARD in error_of(reply)["message"]) == (400, True)
    assert len(stand_in.chats()) == 1


def test_all_schemas_of_a_request_are_checked_by_one_process(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, run = list[Any](), subprocess.run

    def count(*command: Any, **options: Any) -> Any:
        started.append(command)
        return run(*command, **options)

    monkeypatch.setattr("service.fit_checks.subprocess.run", count)
    many = [{"name": f"t{i}", "parameters": {"properties": {"a": {"not": {}}}}} for i in range(128)]
    assert ask(client, tools=tools(*many, strict=True)).status_code == 200
    assert len(started) == 1
    bad = [*many[:5], {"name": "bad", "parameters": {"properties": {"a": {"multipleOf": "2"}}}}]
    reply = ask(client, tools=tools(*bad, strict=True))
    assert error_of(reply)["message"].startswith(
        "tools[5].function.parameters: is no valid JSON schema at /properties/a/multipleOf"
    )


def test_a_tool_is_told_in_its_own_letters(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.script = ['{"name": "add", "arguments": {"a": 3}}']
    ask(client, tools=tools({**ADD, "description": "天气"}), tool_choice="required")
    assert "天气" in stand_in.chats()[0]["messages"][0]["content"]


def test_two_tools_of_one_name_are_refused(client: FlaskClient) -> None:
    reply = ask(client, tools=tools(ADD, ADD))
    assert (reply.status_code, error_of(reply)["param"]) == (400, "tools[1].function.name")


def test_an_empty_list_of_stop_words_is_none(client: FlaskClient, stand_in: StandIn) -> None:
    ask(client, stop=[])
    assert "stop" not in stand_in.chats()[0]["options"]


def test_a_tool_may_have_nothing_to_say(client: FlaskClient) -> None:
    said = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "add", "arguments": "{}"}}]}
    assert ask(client, messages=[said, {"role": "tool", "tool_call_id": "c", "content": ""}]).status_code == 200


def test_what_takes_forever_to_check_is_stopped() -> None:
    branching: Any = {"type": "object", "properties": {"n": {"anyOf": [{"$ref": "#"}] * 6}}, "minProperties": 1}
    value: Any = 5
    for _ in range(40):
        value = {"n": value}
    schema = Schema("schema", branching, safe_schema("schema", branching, Budget()))
    assert schema.misses({"n": {"n": 5}}) == "doesn't fit `anyOf` at /n"
    with pytest.raises(InvalidRequest, match=f"schema: {TOO_HARD}"):
        schema.misses(value)
