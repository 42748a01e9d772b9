"""Ollama's own Python client and its CLI, unchanged, against the gateway."""

import asyncio
import json
import os
import pty
import re
import select
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ollama
import pytest

from service.keys import digest
from testbed.gateway import Served
from testbed.pictures import base64_of, picture_of, png
from testbed.stand_in import MODEL, NAME, StandIn
from testbed.stand_in import model as stand_in_model
from testbed.waiting import eventually
from tests.support.ollama_cli import cli, command

CAPABILITIES = ["completion", "vision", "tools", "thinking"]
HI = [{"role": "user", "content": "Hi"}]


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The one
        b: The other
    """
    return a + b


@pytest.fixture(scope="module")
def engine() -> Iterator[StandIn]:
    server = StandIn(capabilities=CAPABILITIES).start()
    yield server
    server.stop()


@pytest.fixture
def stand_in(engine: StandIn) -> StandIn:
    engine.renew()
    engine.capabilities = CAPABILITIES
    return engine


@pytest.fixture
def client(shared: Served, stand_in: StandIn) -> Iterator[ollama.Client]:
    with ollama.Client(shared.url) as client:
        yield client


def test_the_client_chats_whole_and_streamed(client: ollama.Client) -> None:
    whole = client.chat(MODEL, HI, options=ollama.Options(num_ctx=8192, temperature=0), keep_alive="10m")
    assert (whole.model, whole.message.content, whole.done_reason) == (MODEL, "Hello, world", "stop")
    assert (whole.prompt_eval_count, whole.eval_count, whole.eval_duration) == (7, 3, 300_000_000)
    *pieces, last = client.chat(MODEL, HI, stream=True)
    assert [piece.message.content for piece in pieces] == ["Hello", ", ", "world"]
    assert last.done
    assert (last.total_duration or 0) > 0


def test_the_client_generates_whole_and_streamed(client: ollama.Client) -> None:
    assert client.generate(MODEL, "Hi", system="Be brief.", format="").response == "Hello, world"
    pieces = client.generate(MODEL, "Hi", stream=True)
    assert [piece.response for piece in pieces] == ["Hello", ", ", "world", ""]
    assert client.generate(MODEL).done_reason == "load"
    assert client.generate(MODEL, keep_alive=0).done_reason == "unload"


def test_the_async_client_does_the_same(shared: Served, stand_in: StandIn) -> None:
    async def both() -> tuple[str | None, str]:
        async with ollama.AsyncClient(shared.url) as client:
            whole = await client.chat(MODEL, HI)
            stream = await client.chat(MODEL, HI, stream=True)
            return whole.message.content, "".join([piece.message.content or "" async for piece in stream])

    assert asyncio.run(both()) == ("Hello, world", "Hello, world")


def test_a_function_is_a_tool_and_its_result_goes_back(client: ollama.Client, stand_in: StandIn) -> None:
    stand_in.script = [{"tool_calls": [{"function": {"name": "add", "arguments": {"a": 1, "b": 2}}}]}]
    messages: list[Any] = [*HI]
    reply = client.chat(MODEL, messages, tools=[add])
    [call] = reply.message.tool_calls or ()
    assert (call.function.name, add(**call.function.arguments)) == ("add", 3)
    messages += [reply.message, {"role": "tool", "tool_name": "add", "content": "3"}]
    assert client.chat(MODEL, messages, tools=[add]).message.content == "Hello, world"
    first, second = stand_in.chats()
    assert first["tools"][0]["function"]["parameters"]["required"] == ["a", "b"]
    assert second["messages"][1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1, "b": 2}}}],
        },
        {"role": "tool", "content": "3", "tool_name": "add"},
    ]


def test_a_schema_a_picture_and_thoughts_pass(client: ollama.Client, stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.thoughts = ["Hm"]
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    file = tmp_path / "x.png"
    picture = ollama.Message(role="user", content="What is it?", images=[ollama.Image(value=png(40, 40))])
    reply = client.chat(MODEL, [picture], format=schema, think="high")
    assert reply.message.thinking == "Hm"
    picture_of(stand_in.chats()[0]["messages"][0]["images"][0]).save(file)
    assert client.generate(MODEL, "What?", images=[str(file), base64_of(file.read_bytes())]).done
    asked, generated = stand_in.chats()
    assert (asked["format"]["required"], asked["think"]) == (["a"], "high")
    assert len(generated["messages"][0]["images"]) == 2


def test_the_client_embeds(make_server: Any, stand_in: StandIn) -> None:
    stand_in.capabilities = ["embedding"]
    with ollama.Client(make_server().url) as client:
        assert client.embed(MODEL, ["a", "b"], truncate=True).embeddings == [[0.6, 0.8]] * 2
        assert client.embed(MODEL, "a", dimensions=2).prompt_eval_count == 3
        assert client.embeddings(MODEL, "a").embedding == [0.6, 0.8]


def test_the_client_sees_the_served_model(client: ollama.Client, stand_in: StandIn) -> None:
    [listed] = client.list().models
    assert (listed.model, listed.digest, listed.size) == (NAME, stand_in_model.DIGEST, stand_in_model.SIZE)
    [running] = client.ps().models
    assert (running.name, running.size_vram, running.expires_at.year) == (NAME, 0, 2318)
    shown = client.show(MODEL)
    assert (shown.capabilities, shown.modelinfo["general.architecture"]) == (stand_in.capabilities, "gemma3")


def test_the_client_raises_errors_with_a_sentence(client: ollama.Client, stand_in: StandIn) -> None:
    with pytest.raises(ollama.ResponseError, match=f"model 'llama3' not found: this server serves {MODEL}") as error:
        client.chat("llama3", HI)
    assert error.value.status_code == 404
    for change in (client.pull, client.push, client.delete, lambda name: client.copy(name, "b")):
        with pytest.raises(ollama.ResponseError, match="the operator of this server chooses its model") as error:
            change("a")
        assert error.value.status_code == 403
    stand_in.error_at = 1
    with pytest.raises(ollama.ResponseError, match="the model server failed"):
        list(client.chat(MODEL, HI, stream=True))


def test_a_client_that_leaves_stops_the_model(client: ollama.Client, stand_in: StandIn) -> None:
    stand_in.hold_at = 1
    stream = client.chat(MODEL, HI, stream=True)
    assert next(stream).message.content == "Hello"
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    eventually(lambda: stand_in.cancelled == 1)


def test_the_clients_key_is_ours(make_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[alice]\nsha256 = "{digest("sesame")}"\n')
    served = make_server(api_keys_file=keys)
    with ollama.Client(served.url) as client, pytest.raises(ollama.ResponseError, match="needs an API key"):
        client.list()
    monkeypatch.setenv("OLLAMA_API_KEY", "sesame")
    with ollama.Client(served.url) as client:
        assert client.chat(MODEL, HI).message.content == "Hello, world"


def test_the_cli_runs_a_prompt(shared: Served, stand_in: StandIn) -> None:
    stand_in.thoughts = ["Hm"]
    done = cli(shared, "run", MODEL, "--verbose", "Hi")
    assert done.returncode == 0, done.stderr
    assert "Hello, world" in done.stdout
    assert "Hm" in done.stdout  # it asks for thoughts where the model can think
    assert re.search(r"eval count: +3 token", done.stderr)
    assert "eval rate:            10.00 tokens/s" in done.stderr


@dataclass
class Terminal:
    """Our end of a terminal; text: what a program has written there and expect() hasn't passed."""

    end: int
    text: bytes = b""

    def expect(self, wanted: bytes) -> None:
        """Read until this comes, and past it."""
        while wanted not in self.text:
            assert select.select([self.end], [], [], 30)[0], self.text
            self.text += os.read(self.end, 4096)
        self.text = self.text.partition(wanted)[2]

    def type(self, line: str) -> None:
        """Type a line at the prompt."""
        self.expect(b">>> ")
        os.write(self.end, line.encode() + b"\r")


def test_the_cli_talks_with_somebody_at_a_terminal(shared: Served, stand_in: StandIn) -> None:
    ours, its = pty.openpty()
    terminal = Terminal(ours)
    started = command(shared, "run", MODEL)
    process = subprocess.Popen(**started, stdin=its, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    try:
        for line in ("Hi", "And you?"):
            terminal.type(line)
            terminal.expect(b"world")
        terminal.type("/bye")
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert [[message["content"] for message in chat["messages"]] for chat in stand_in.chats()] == [
        ["Hi"],
        ["Hi", "Hello, world", "And you?"],
    ]


def test_the_cli_takes_a_form_and_its_prompt_from_a_pipe(shared: Served, stand_in: StandIn) -> None:
    done = cli(shared, "run", MODEL, "--format", "json", "--think=false", "--keepalive", "5m", said="Say it in JSON")
    assert (done.returncode, done.stdout.strip()) == (0, "Hello, world")
    [asked] = stand_in.chats()
    assert (asked["format"], asked["messages"][0]["content"]) == ("json", "Say it in JSON")


def test_the_cli_tells_of_the_model(shared: Served, stand_in: StandIn) -> None:
    assert re.search(rf"{NAME} +{stand_in_model.DIGEST[:12]} +253 MB", cli(shared, "list").stdout)
    assert re.search(rf"{NAME} .* 100% CPU +2048 +Forever", cli(shared, "ps").stdout)
    shown = cli(shared, "show", MODEL).stdout
    assert re.search(r"architecture +gemma3", shown)
    assert re.search(r"context length +32768", shown)
    assert "thinking" in shown
    assert f"ollama version is {stand_in_model.VERSION}" in cli(shared, "--version").stdout


def test_the_cli_stops_nothing_and_pulls_nothing(shared: Served, stand_in: StandIn) -> None:
    assert cli(shared, "stop", MODEL).returncode == 0
    assert stand_in.unloads == 0
    for done in (cli(shared, "pull", MODEL), cli(shared, "run", "llama3", "Hi"), cli(shared, "rm", MODEL)):
        assert done.returncode != 0
        assert f"the operator of this server chooses its model, which is {MODEL}" in done.stderr


def test_the_cli_embeds(make_server: Any, stand_in: StandIn) -> None:
    stand_in.capabilities = ["embedding"]
    assert json.loads(cli(make_server(), "run", MODEL, "Hi").stdout) == [0.6, 0.8]
