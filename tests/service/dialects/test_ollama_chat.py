import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from testbed.pictures import png, taken_image
from testbed.stand_in import DURATIONS, MODEL, StandIn
from tests.support.errors import ollama_error_of as error_of

HI: Any = [{"role": "user", "content": "Hi"}]
TOOL: Any = {
    "type": "function",
    "function": {"name": "add", "description": "adds", "parameters": {"type": "object", "properties": {}}},
}
CALL = {"function": {"name": "add", "arguments": {"a": 1}}}


def chat(client: FlaskClient, **body: Any) -> Any:
    return client.post("/api/chat", json={"model": MODEL, "messages": HI, **body}, buffered=True)


def generate(client: FlaskClient, **body: Any) -> Any:
    return client.post("/api/generate", json={"model": MODEL, "prompt": "Hi", **body}, buffered=True)


def lines(reply: Any) -> list[Any]:
    assert (reply.status_code, reply.content_type) == (200, "application/x-ndjson")
    return [json.loads(line) for line in reply.data.splitlines()]


def check_ending(last: Any, reason: str = "stop") -> None:
    """Check an object that ends an answer of seven tokens read and three written."""
    assert (last["done"], last["done_reason"]) == (True, reason)
    assert (last["prompt_eval_count"], last["eval_count"]) == (7, 3)
    assert {name: last[name] for name in DURATIONS} == DURATIONS
    assert 0 < last["total_duration"] < 10e9


def test_a_chat_is_streamed_unless_it_asks_for_a_whole_answer(client: FlaskClient) -> None:
    *pieces, last = lines(chat(client))
    assert [piece["message"] for piece in pieces] == [
        {"role": "assistant", "content": text} for text in ("Hello", ", ", "world")
    ]
    for piece in pieces:
        assert (piece["model"], piece["done"]) == (MODEL, False)
        assert datetime.now(UTC) - datetime.fromisoformat(piece["created_at"]) < timedelta(minutes=1)
    assert last["message"] == {"role": "assistant", "content": ""}
    check_ending(last)


def test_a_whole_chat_is_one_object(client: FlaskClient) -> None:
    reply = chat(client, stream=False)
    assert (reply.status_code, reply.content_type) == (200, "application/json")
    assert reply.json["message"] == {"role": "assistant", "content": "Hello, world"}
    check_ending(reply.json)


def test_generate_answers_streamed_and_whole(client: FlaskClient) -> None:
    *pieces, last = lines(generate(client))
    assert [(piece["response"], piece["done"]) for piece in pieces] == [
        ("Hello", False),
        (", ", False),
        ("world", False),
    ]
    assert last["response"] == ""
    check_ending(last)
    whole = generate(client, stream=False).json
    assert (whole["model"], whole["response"]) == (MODEL, "Hello, world")
    check_ending(whole)


@pytest.mark.parametrize("name", [MODEL, MODEL.upper(), f"{MODEL}:latest", f"registry.ollama.ai/library/{MODEL}"])
def test_the_model_is_named_as_the_caller_names_it(client: FlaskClient, name: str) -> None:
    assert {line["model"] for line in lines(chat(client, model=name))} == {name}
    assert generate(client, model=name, stream=False).json["model"] == name


def test_a_model_that_is_not_served_is_not_found_in_ollamas_words(client: FlaskClient, stand_in: StandIn) -> None:
    for reply in (chat(client, model="llama3"), generate(client, model="llama3")):
        assert reply.status_code == 404
        assert error_of(reply) == f"model 'llama3' not found: this server serves {MODEL} only"
    assert error_of(chat(client, model="x" * 200)).startswith(f"model '{'x' * 64}…' not found")
    assert not stand_in.chats()


def test_every_message_and_tool_reaches_ollama(client: FlaskClient, stand_in: StandIn) -> None:
    messages = [
        {"role": "System", "content": "Be brief."},
        {"role": "user", "content": "What is it?", "images": [png(3, 3)]},
        {
            "role": "assistant",
            "content": "",
            "thinking": "They ask.",
            "tool_calls": [
                {"id": "c1", "index": 0, "type": "function", "function": {**CALL["function"], "index": 0}},
                {"function": {"name": "now"}},
            ],
        },
        {"role": "tool", "content": "2", "tool_name": "add", "tool_call_id": "c1", "name": "add"},
    ]
    assert chat(client, messages=messages, tools=[TOOL, {"function": {"name": "now"}}]).status_code == 200
    [sent] = stand_in.chats()
    assert taken_image(sent["messages"][1]).size == (32, 32)
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is it?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c1", **CALL}, {"function": {"name": "now", "arguments": {}}}],
        },
        {"role": "tool", "content": "2", "tool_name": "add", "tool_call_id": "c1"},
    ]
    assert sent["tools"] == [TOOL, {"type": "function", "function": {"name": "now"}}]


def test_a_prompt_with_its_system_and_images_reaches_ollama(client: FlaskClient, stand_in: StandIn) -> None:
    assert generate(client, system="Be brief.", images=[png(40, 50)]).status_code == 200
    [sent] = stand_in.chats()
    assert taken_image(sent["messages"][1]).size == (40, 50)
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


SAMPLING = {
    **{"temperature": 0.5, "top_k": 20, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.7, "repeat_penalty": 1.1},
    **{
        "repeat_last_n": -1,
        "presence_penalty": 1,
        "frequency_penalty": -1,
        "seed": -1,
        "stop": [f"s{i}" for i in range(9)],
    },
}
OPERATORS = {
    **{"num_ctx": 131072, "num_batch": 1, "num_thread": 64, "num_gpu": 99, "main_gpu": 1, "num_keep": 5},
    **{"use_mmap": False, "draft_num_predict": 3},
}
UNKNOWN = {"mirostat": 2, "tfs_z": 1.0, "low_vram": True, "f16_kv": True, "numa": False, "reasoning_effort": "low"}


def test_options_of_sampling_reach_ollama_and_those_of_loading_do_not(client: FlaskClient, stand_in: StandIn) -> None:
    options = {**SAMPLING, **OPERATORS, **UNKNOWN, "num_predict": 9}
    assert chat(client, options=options).status_code == generate(client, options=options).status_code == 200
    for sent in stand_in.chats():
        whole = {"repeat_last_n": 1_048_576}  # llama-server knows no -1
        assert sent["options"] == {"num_ctx": 2048, "num_thread": 2, "num_predict": 9, **SAMPLING, **whole}


@pytest.mark.parametrize(("asked", "sent"), [(-1, 512), (-2, 512), (0, 512), (5, 5), (5.0, 5), (100_000, 512)])
def test_more_tokens_than_are_allowed_are_as_many_as_are(
    client: FlaskClient, stand_in: StandIn, asked: float, sent: int
) -> None:
    assert chat(client, options={"num_predict": asked}).status_code == 200
    assert stand_in.chats()[0]["options"]["num_predict"] == sent


def test_an_answer_that_is_cut_says_so(client: FlaskClient) -> None:
    last = lines(chat(client, options={"num_predict": 2}))[-1]
    assert (last["done_reason"], last["eval_count"]) == ("length", 2)


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("form", "sent"), [("", None), (None, None), ("json", "json"), (SCHEMA, {**SCHEMA, "additionalProperties": False})]
)
def test_the_form_of_the_answer_reaches_ollama(client: FlaskClient, stand_in: StandIn, form: Any, sent: Any) -> None:
    assert chat(client, format=form).status_code == generate(client, format=form).status_code == 200
    assert [asked.get("format") for asked in stand_in.chats()] == [sent, sent]


def test_an_answer_that_was_made_again_counts_all_its_tries(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.script = ['{"a": 3}', '{"a": 10}']
    five = {"type": "object", "properties": {"a": {"type": "integer", "multipleOf": 5}}, "required": ["a"]}
    whole = chat(client, format=five, stream=False).json
    assert whole["message"]["content"] == '{"a": 10}'
    assert {name: whole[name] for name in DURATIONS} == {name: 2 * took for name, took in DURATIONS.items()}
    assert (whole["prompt_eval_count"], whole["eval_count"]) == (14, 2)
    stand_in.script = ['{"a": 3}'] * 3
    reply = chat(client, format=five, stream=False)
    assert (reply.status_code, error_of(reply).startswith("format: the model gave no answer that fits")) == (
        422,
        True,
    )


@pytest.mark.parametrize("think", [True, "low", "medium", "high", "max"])
def test_thoughts_come_apart_from_the_answer(app: Flask, client: FlaskClient, stand_in: StandIn, think: Any) -> None:
    app.extensions["sluice"].default.watch.capabilities = frozenset({"completion", "thinking"})
    stand_in.thoughts = ["Hm", "."]
    pieces = lines(chat(client, think=think))
    assert "".join(piece["message"].get("thinking", "") for piece in pieces) == "Hm."
    assert "".join(piece["message"]["content"] for piece in pieces) == "Hello, world"
    pieces = lines(generate(client, think=think))
    assert "".join(piece.get("thinking", "") for piece in pieces) == "Hm."
    assert chat(client, think=think, stream=False).json["message"]["thinking"] == "Hm."
    whole = generate(client, think=think, stream=False).json
    assert (whole["thinking"], whole["response"]) == ("Hm.", "Hello, world")
    assert {asked["think"] for asked in stand_in.chats()} == {think}


def test_a_model_answers_at_once_unless_asked_to_think(app: Flask, client: FlaskClient, stand_in: StandIn) -> None:
    app.extensions["sluice"].default.watch.capabilities = frozenset({"completion", "thinking"})
    stand_in.thoughts = ["Hm"]
    assert all("thinking" not in line["message"] for line in lines(chat(client)) + lines(chat(client, think=False)))


def test_what_a_model_cannot_do_is_told_in_the_words_that_clients_look_for(
    app: Flask, client: FlaskClient, stand_in: StandIn
) -> None:
    app.extensions["sluice"].default.watch.capabilities = frozenset({"completion"})
    for body in ({"think": True}, {"think": "high"}, {"think": True, "messages": []}):
        reply = chat(client, **body)
        assert (reply.status_code, error_of(reply)) == (
            400,
            f"think: {MODEL} does not support thinking (leave it out)",
        )
    reply = chat(client, tools=[TOOL])
    assert (reply.status_code, error_of(reply)) == (400, f"tools: {MODEL} does not support tools")
    assert not stand_in.chats()


def test_calls_of_tools_are_ollamas_with_ids_of_their_own(client: FlaskClient, stand_in: StandIn) -> None:
    said = {"tool_calls": [{"id": "x", **CALL}, {"function": {"name": "now", "arguments": {}}}]}
    stand_in.script = [said, said]
    piece, last = lines(chat(client, tools=[TOOL]))
    whole = chat(client, tools=[TOOL], stream=False).json
    assert (piece["done"], last["message"]) == (False, {"role": "assistant", "content": ""})
    calls = piece["message"]["tool_calls"], whole["message"]["tool_calls"]
    for each in calls:
        assert [call["function"] for call in each] == [
            {"index": 0, "name": "add", "arguments": {"a": 1}},
            {"index": 1, "name": "now", "arguments": {}},
        ]
    assert len({call["id"] for each in calls for call in each}) == 4
    assert whole["message"]["content"] == ""


def test_an_answer_of_ours_is_taken_back(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.script = [{"content": "I add.", "thinking": "Hm", "tool_calls": [CALL]}]
    message = chat(client, tools=[TOOL], stream=False).json["message"]
    assert chat(client, messages=[*HI, message, {"role": "tool", "content": "2"}]).status_code == 200
    [sent] = stand_in.chats()[1]["messages"][1:2]
    assert sent == {
        "role": "assistant",
        "content": "I add.",
        "tool_calls": [{"id": message["tool_calls"][0]["id"], **CALL}],
    }


IDLE: Any = [
    ("/api/chat", {"messages": []}),
    ("/api/chat", {}),
    ("/api/generate", {}),
    ("/api/generate", {"prompt": ""}),
]


@pytest.mark.parametrize(("path", "body"), IDLE)
@pytest.mark.parametrize(
    ("keep_alive", "reason"),
    [
        (None, "load"),
        (-1, "load"),
        ("5m", "load"),
        (0.5, "load"),
        (0, "unload"),
        (0.0, "unload"),
        ("0", "unload"),
        ("0s", "unload"),
    ],
)
def test_what_loads_and_unloads_a_model_is_answered_without_doing_it(
    client: FlaskClient, stand_in: StandIn, path: str, body: Any, keep_alive: Any, reason: str
) -> None:
    asked = len(stand_in.requests)
    reply = client.post(path, json={"model": MODEL, "keep_alive": keep_alive, **body})
    assert reply.status_code == 200
    told: Any = reply.json
    assert datetime.fromisoformat(told.pop("created_at"))
    said = {"message": {"role": "assistant", "content": ""}} if path == "/api/chat" else {"response": ""}
    assert told == {"model": MODEL, **said, "done": True, "done_reason": reason}
    assert len(stand_in.requests) == asked


@pytest.mark.parametrize(("path", "body"), IDLE)
def test_nobody_is_told_that_a_model_is_loaded_which_is_not(
    app: Flask, client: FlaskClient, path: str, body: Any
) -> None:
    watch = app.extensions["sluice"].default.watch
    watch.loaded, watch._started = False, True
    reply = client.post(path, json={"model": MODEL, **body})
    assert (reply.status_code, error_of(reply)) == (503, "the model is not loaded yet")
    assert reply.headers["Retry-After"] == "5"


def test_a_model_that_only_embeds_is_not_loaded_to_chat(app: Flask, client: FlaskClient) -> None:
    app.extensions["sluice"].default.watch.capabilities = frozenset({"embedding"})
    for reply in (chat(client), generate(client), chat(client, messages=[]), generate(client, prompt="")):
        assert reply.status_code == 400
        assert "can't chat" in error_of(reply)


@pytest.mark.parametrize("keep_alive", [0, 3600, -1, 1.5, "10m", "1h30m", "-1s", "24h", "500ms", "0"])
def test_how_long_the_model_stays_is_the_operators_choice(
    client: FlaskClient, stand_in: StandIn, keep_alive: Any
) -> None:
    assert chat(client, keep_alive=keep_alive).status_code == 200
    assert stand_in.chats()[0]["keep_alive"] == -1


EMPTY = {"context": [], "raw": False, "suffix": "", "template": "", "system": "", "options": None, "format": None}


def test_what_clients_send_empty_is_as_good_as_not_sent(client: FlaskClient, stand_in: StandIn) -> None:
    """As Go's and JavaScript's clients write their objects, and Open WebUI its chats."""
    ignored = {"truncate": True, "shift": True, "logprobs": False, "top_logprobs": 0}
    assert generate(client, **EMPTY, **ignored, images=None, think=None).status_code == 200
    more = {"metadata": {"chat_id": "1"}, "num_predict": 1000, "system": "ignored", "template": "ignored"}
    assert chat(client, **ignored, **more, options={}, tools=None).status_code == 200
    first, second = stand_in.chats()
    assert first == second
    assert first["options"] == {"num_ctx": 2048, "num_thread": 2, "num_predict": 512}


@pytest.mark.parametrize(
    ("path", "body", "complaint"),
    [
        ("/api/generate", {"raw": True}, "raw: is not supported: the model's template is always used"),
        ("/api/generate", {"suffix": "}"}, "suffix: is not supported: no text can be filled in"),
        ("/api/generate", {"template": "x"}, "template: is not supported: the model has its own"),
        ("/api/generate", {"context": [1]}, "context: is not supported: send the conversation to /api/chat instead"),
        ("/api/generate", {"logprobs": True}, "logprobs: is not supported: probabilities aren't passed on"),
        ("/api/generate", {"prompt": " "}, "prompt: must not be empty or blank"),
        ("/api/generate", {"prompt": 5}, "prompt: must be a text"),
        ("/api/generate", {"images": ["x" * 8]}, "images[0]: "),
        ("/api/chat", {"logprobs": True}, "logprobs: is not supported"),
        ("/api/chat", {"model": ""}, "model: must have at least 1 character"),
        ("/api/chat", {"model": None}, "model: is required"),
        ("/api/chat", {"format": "xml"}, "format: must be '' or 'json', or a JSON schema"),
        ("/api/chat", {"format": {"type": "strin"}}, "format.type: "),
        ("/api/chat", {"think": "hard"}, "think: must be 'low', 'medium', 'high' or 'max', or true or false"),
        ("/api/chat", {"think": 1}, "think: must be 'low', "),
        ("/api/chat", {"keep_alive": "for ever"}, 'keep_alive: must be seconds, or a duration such as "5m"'),
        ("/api/chat", {"keep_alive": True}, "keep_alive: must be seconds"),
        ("/api/chat", {"keep_alive": "1" * 65 + "s"}, "keep_alive: must be seconds"),
        ("/api/chat", {"options": {"temperature": 3}}, "options.temperature: must be less than or equal to 2"),
        ("/api/chat", {"options": [1]}, "options: must be a JSON object"),
        ("/api/chat", {"messages": [5]}, "messages[0]: must be a JSON object"),
        ("/api/chat", {"options": {"num_predict": -3}}, "options.num_predict: "),
        ("/api/chat", {"options": {"repeat_last_n": 10**9}}, "options.repeat_last_n: "),
        ("/api/chat", {"options": {"stop": "x"}}, "options.stop: must be a list"),
        ("/api/chat", {"options": {"stop": ["x"] * 65}}, "options.stop: must have at most 64 items"),
        ("/api/chat", {"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role: "),
        ("/api/chat", {"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content: "),
        (
            "/api/chat",
            {"messages": [{"role": "user", "content": "x", "images": ["http://a/b"]}]},
            "messages[0].images[0]: ",
        ),
        (
            "/api/chat",
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]},
            "messages[0].tool_calls[0].function.arguments: must be a JSON object",
        ),
        ("/api/chat", {"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name: is required"),
        ("/api/chat", {"prompt": "x"}, "prompt: is not supported"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(
    client: FlaskClient, stand_in: StandIn, path: str, body: Any, complaint: str
) -> None:
    reply = chat(client, **body) if path == "/api/chat" else generate(client, **body)
    assert reply.status_code == 400
    assert error_of(reply).startswith(complaint)
    assert not stand_in.chats()


def test_a_prompt_that_is_too_long_is_a_bad_request_as_it_is_for_ollama(client: FlaskClient, stand_in: StandIn) -> None:
    reply = generate(client, prompt="x" * 20_000)
    assert (reply.status_code, error_of(reply).startswith("prompt: 20000 characters")) == (400, True)
    assert not stand_in.chats()
    stand_in.error = (400, "the prompt exceeds the context length")
    reply = generate(client)
    assert (reply.status_code, error_of(reply)) == (
        400,
        "the prompt has more tokens than the model's context (shorten it)",
    )


def test_a_fault_before_the_answer_is_a_status_and_a_later_one_a_line(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.error_at = 1
    for reply in (chat(client), generate(client)):
        first, last = lines(reply)
        assert not first["done"]
        assert last == {"error": "the model server failed (the request can be sent again)"}
    stand_in.error = (500, "secret 0xdead")
    reply = chat(client)
    assert (reply.status_code, error_of(reply)) == (
        502,
        "the model server failed (the request can be sent again)",
    )
    assert reply.headers["Retry-After"] == "5"


def test_an_engine_that_tells_no_durations_is_timed_from_here(client: FlaskClient, stand_in: StandIn) -> None:
    stand_in.tokens = ["word "] * 60  # which Ollama ends without a last line
    stand_in.end_at = 40
    last = lines(chat(client))[-1]
    assert last["done_reason"] == "length"
    assert 0 < last["prompt_eval_duration"] <= last["total_duration"]
    assert 0 < last["eval_duration"] <= last["total_duration"]
    assert last["load_duration"] == 0
