"""The real Ollama with the real small model, asked as a user asks."""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import openai
import psutil
import pytest
from ollama import Client, ResponseError

from launcher.load_model import load_model
from service.errors import InvalidRequest
from service.ollama import Ollama
from service.settings import Settings
from testbed.fetching import fetch
from testbed.gateway import Served, serve
from testbed.real_ollama import STARTING, RealOllama
from testbed.waiting import eventually
from tests.support.needs import RunOllama
from tests.support.ollama_cli import cli
from tests.support.patterns import EVERYDAY

SLOTS = 2


@pytest.fixture(scope="module")
def ollama(real_ollama: RunOllama) -> Iterator[RealOllama]:
    with real_ollama(Settings(slots=SLOTS)) as running:
        yield running


@pytest.fixture(scope="module")
def served(ollama: RealOllama, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    log: Path = tmp_path_factory.mktemp("real") / "log"
    with serve(ollama.url, log, model=ollama.model, slots=SLOTS, threads=1) as gateway:
        yield gateway


def generate(served: Served, **body: Any) -> Any:
    return fetch(f"{served.url}/generate", {"prompt": "What is the capital of France?", **body})


def test_the_model_answers(served: Served, ollama: RealOllama) -> None:
    reply = generate(served, temperature=0)
    assert reply.status == 200
    assert "Paris" in reply.json()["response"]
    assert reply.json()["model"] == ollama.model
    assert reply.json()["usage"]["prompt_tokens"] > 5


def test_a_stream_is_the_same_answer_in_pieces(served: Served) -> None:
    whole = generate(served, temperature=0, seed=1, max_tokens=24).json()
    lines = [
        json.loads(line)
        for line in generate(served, temperature=0, seed=1, max_tokens=24, stream=True).body.splitlines()
    ]
    assert "".join(line["response"] for line in lines) == whole["response"]
    assert lines[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


def test_the_cap_ends_an_answer(served: Served) -> None:
    reply = generate(served, prompt="Count from one to a thousand.", max_tokens=5).json()
    assert (reply["finish_reason"], reply["usage"]["completion_tokens"]) == ("length", 5)


def test_more_tokens_than_the_context_are_refused_not_cut(served: Served) -> None:
    reply = generate(served, prompt="one two three " * 1000)
    assert (reply.status, reply.json()["error"]["code"]) == (413, "prompt_too_long")


def test_images_are_refused_by_a_model_that_cannot_see(served: Served) -> None:
    reply = generate(served, images=["aGVsbG8="])
    assert (reply.status, "can't see images" in reply.json()["error"]["message"]) == (400, True)


def test_the_official_client_talks_to_the_real_model(served: Served, ollama: RealOllama) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        form: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        whole = client.chat.completions.create(
            model=ollama.model,
            messages=[{"role": "user", "content": "The capital of France as JSON"}],
            response_format=form,
            max_tokens=40,
            temperature=0,
        )
        assert "city" in json.loads(whole.choices[0].message.content or "")
        stream = client.chat.completions.create(
            model=ollama.model, messages=[{"role": "user", "content": "Say hello."}], stream=True, max_tokens=8
        )
        assert list(stream)[-1].choices[0].finish_reason in ("stop", "length")
        with pytest.raises(openai.BadRequestError, match="gemma3-270m can't embed"):
            client.embeddings.create(model=ollama.model, input="x")


def test_ollamas_own_clients_talk_to_the_real_model(served: Served, ollama: RealOllama) -> None:
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    sampling = {"temperature": 0, "num_predict": 1000, "num_ctx": 131_072, "repeat_last_n": -1, "mirostat": 2}
    with Client(served.url) as client, Client(ollama.url) as engine:
        whole = client.chat(ollama.model, messages, options=sampling)
        assert "Paris" in whole.message.content
        assert 0 < whole.prompt_eval_duration < whole.total_duration
        assert 0 < whole.eval_duration < whole.total_duration
        stream = client.generate(ollama.model, messages[0]["content"], stream=True, options=sampling)
        assert "".join(piece.response for piece in stream) == whole.message.content
        city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        assert "city" in json.loads(client.chat(ollama.model, messages, format=city, options=sampling).message.content)
        [listed], [running] = client.list().models, client.ps().models
        real = next(model for model in engine.list().models if model.model == listed.model)
        assert (listed.digest, listed.size, listed.modified_at) == (real.digest, real.size, real.modified_at)
        assert (running.digest, running.context_length) == (listed.digest, 2048)
        assert client.show(ollama.model).modelinfo == engine.show(ollama.model).modelinfo
        with pytest.raises(ResponseError, match="does not support tools"):
            client.chat(ollama.model, messages, tools=[{"function": {"name": "now"}}])
    done = cli(served, "run", ollama.model, "What is the capital of France?")
    assert (done.returncode, "Paris" in done.stdout) == (0, True)


def test_anthropics_client_talks_to_the_real_model_and_counts_as_it_does(served: Served, ollama: RealOllama) -> None:
    tool: Any = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    asked: Any = {"model": ollama.model, "messages": [{"role": "user", "content": "What is the weather in Paris?"}]}
    forced: Any = {"tools": [tool], "tool_choice": {"type": "any"}}
    with anthropic.Anthropic(base_url=served.url, api_key="none", max_retries=0) as client:
        for more in ({}, {"system": "Be brief."}, forced):
            message = client.messages.create(**asked, **more, max_tokens=60)
            counted = client.messages.count_tokens(**asked, **more).input_tokens
            assert counted == message.usage.input_tokens > 5
        assert (message.stop_reason, message.content[0].type) in (("tool_use", "tool_use"), ("max_tokens", "text"))
        with client.messages.stream(**asked, max_tokens=8) as stream:
            assert "".join(stream.text_stream) == stream.get_final_text()
        long: Any = [{"role": "user", "content": "one two three " * 1000}]
        with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > 2048 maximum"):
            client.messages.count_tokens(model=ollama.model, messages=long)


@pytest.mark.parametrize("case", EVERYDAY.values(), ids=EVERYDAY)
def test_everyday_patterns_are_held_to_and_the_engine_lives(
    served: Served, ollama: RealOllama, case: tuple[str, str]
) -> None:
    pattern, _ = case
    schema = {"type": "object", "properties": {"e": {"type": "string", "pattern": pattern}}, "required": ["e"]}
    body = {
        **{"model": ollama.model, "messages": [{"role": "user", "content": "JSON"}], "max_tokens": 30, "seed": 1},
        "response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": schema}},
    }
    reply = fetch(f"{served.url}/v1/chat/completions", body)
    assert reply.status == 200, reply.body
    [choice] = reply.json()["choices"]
    if choice["finish_reason"] == "stop":
        assert re.search(pattern, json.loads(choice["message"]["content"])["e"], re.ASCII)
    assert ollama.process.poll() is None


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "minimum": 1}},
            "required": ["city", "days"],
        },
    },
}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_model_that_knows_no_tools_can_be_made_to_call_one(served: Served, ollama: RealOllama, choice: Any) -> None:
    body = {
        "model": ollama.model,
        "messages": [{"role": "user", "content": "How is the weather in Paris this week?"}],
        "tools": [WEATHER, {"type": "function", "function": {"name": "stop"}}],
        "tool_choice": choice,
        "max_tokens": 64,
        "temperature": 0,
    }
    reply = fetch(f"{served.url}/v1/chat/completions", body)
    assert reply.status == 200, reply.body
    [call] = reply.json()["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] in ("get_weather", "stop")
    arguments = json.loads(call["function"]["arguments"])
    assert call["function"]["name"] == "stop" or (isinstance(arguments["city"], str) and arguments["days"] >= 1)


def test_an_answer_fits_what_no_grammar_holds_or_is_an_honest_error(served: Served, ollama: RealOllama) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9, "multipleOf": 3}}}
    body = {
        "model": ollama.model,
        "messages": [{"role": "user", "content": "Give me a number that three divides."}],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "p", "schema": {**schema, "required": ["n"]}},
        },
        "max_tokens": 32,
    }
    statuses = set()
    for seed in range(4):
        reply = fetch(f"{served.url}/v1/chat/completions", {**body, "seed": seed})
        statuses.add(reply.status)
        if reply.status == 200:
            assert json.loads(reply.json()["choices"][0]["message"]["content"])["n"] in (3, 6, 9)
    assert statuses <= {200, 422}


def test_a_client_that_leaves_mid_prompt_stops_the_real_model(served: Served) -> None:
    socks = [served.connect("/generate", {"prompt": f"{i} " + "word " * 1500}) for i in range(SLOTS)]
    eventually(lambda: served.metric("sluice_requests_in_flight") == SLOTS)
    for sock in socks:
        sock.close()
    eventually(lambda: served.metric("sluice_requests_in_flight") == 0)
    assert generate(served, max_tokens=1).status == 200


def test_ollama_killed_mid_stream_is_an_error_object_and_its_return_is_seen(served: Served, ollama: RealOllama) -> None:
    sock = served.connect("/generate", {"prompt": "Count from one to a thousand.", "stream": True, "max_tokens": 500})
    text = sock.recv(4096)
    while b'"response"' not in text:
        text += sock.recv(4096)
    ollama.process.kill()
    ollama.process.wait()
    while part := sock.recv(4096):
        text += part
        if b"0\r\n\r\n" in part:
            break
    assert b'"code": "engine_failed"' in text
    eventually(lambda: not served.ready())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(generate, served)
        eventually(lambda: served.metric("sluice_requests_in_flight") == 1)
        ollama.start()
        started = time.monotonic()
        assert waiting.result().status == 200
        assert time.monotonic() - started < 30  # 2 s on a quiet machine
    eventually(served.ready, 60)


@pytest.mark.parametrize("victim", ["ollama", "its llama-server"])
def test_a_whole_answer_survives_the_death_of_the_engine(served: Served, ollama: RealOllama, victim: str) -> None:
    eventually(served.ready, 60)
    again, begun = "sluice_requests_sent_again_total", "sluice_time_to_first_token_seconds_count"
    before, answers = served.metric(again), served.metric(begun)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(generate, served, prompt=f"Tell me a story. {victim}", max_tokens=200, stop=["@@@"])
        eventually(lambda: served.metric(begun) == answers + 1, 30)
        [server] = psutil.Process(ollama.process.pid).children()
        if victim == "ollama":
            ollama.process.kill()
            ollama.process.wait()
            ollama.start()
        else:
            server.kill()
        assert answer.result().status == 200
    assert served.metric(again) == before + 1


def test_a_schema_that_the_engine_refuses_is_the_callers_to_change(served: Served, ollama: RealOllama) -> None:
    # With the gateway's own settings, or the model would be loaded again.
    gateway = Ollama(Settings(ollama_host=ollama.url, model=ollama.model, slots=SLOTS, threads=1))
    for schema in ({"type": "nonsense"}, "nonsense"):
        with pytest.raises(InvalidRequest, match=r"^format: "):
            gateway.request(
                "/api/chat", gateway.payload(messages=[{"role": "user", "content": "x"}], format=schema), timeout=30
            )
    gateway.pool.forget()


def test_the_model_is_loaded_once_whoever_asks(served: Served, ollama: RealOllama) -> None:
    eventually(served.ready, 60)
    starts = ollama.log().count(STARTING)
    assert starts >= 1
    for body in ({}, {"stream": True}, {"system": "Be brief."}, {"max_tokens": 1}):
        assert generate(served, **{"max_tokens": 4, **body}).status == 200
    chat = {"model": ollama.model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    json_mode = {"response_format": {"type": "json_object"}}
    assert fetch(f"{served.url}/v1/chat/completions", chat | json_mode).status == 200
    assert fetch(f"{served.url}/v1/embeddings", {"model": ollama.model, "input": "Hi"}).status == 400
    told = {"options": {"num_ctx": 512, "num_thread": 7, "num_predict": 4}, "shift": True, "keep_alive": 0}
    assert fetch(f"{served.url}/api/generate", {"model": ollama.model, "prompt": "Hi", **told}).status == 200
    assert fetch(f"{served.url}/api/generate", {"model": ollama.model, "keep_alive": 0}).status == 200
    gateway = Ollama(Settings(ollama_host=ollama.url, model=ollama.model, slots=SLOTS, threads=1))
    gateway.generate_one(True, 60)
    load_model(ollama.url, gateway.payload())
    gateway.pool.forget()
    assert ollama.log().count(STARTING) == starts
