"""Searches a key, a prompt and an answer in all that others than the caller may see, and in errors."""

import json
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from flask import Flask
from prometheus_client import generate_latest

from service.errors import ServiceError
from service.models import Models
from service.request_log import JsonFormatter
from testbed.fetching import fetch
from testbed.gateway import Served
from testbed.stand_in import MODEL, StandIn
from testbed.waiting import eventually
from tests.support.api_keys import entry, write

KEY, PROMPT, ANSWER, NAME = "sluice-canary-of-a-key", "canary-of-a-prompt", "canary-of-an-answer", "canary_of_a_name"
CANARIES = (KEY, PROMPT, ANSWER, NAME)
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
CHAT, EMBEDDINGS, MESSAGES = "/v1/chat/completions", "/v1/embeddings", "/v1/messages"
Make = Callable[..., Flask]


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return write(tmp_path / "keys", entry("alice", KEY, requests_per_minute=1000))


@pytest.fixture
def make(make_app: Make, stand_in: StandIn, keys_file: Path, caplog: pytest.LogCaptureFixture) -> Make:
    """Return a function that makes the app with API keys; whatever is logged at any level is kept."""
    caplog.set_level(logging.DEBUG)
    stand_in.tokens = ["It is ", ANSWER, "."]
    return lambda **changes: make_app(**{"api_keys_file": str(keys_file), **changes})


def written(app: Flask, caplog: pytest.LogCaptureFixture) -> str:
    """Return every log line and every metric so far."""
    models: Models = app.extensions["sluice"]
    lines = [JsonFormatter().format(record) for record in caplog.records]
    return "\n".join([*lines, generate_latest(models.metrics.registry).decode()])


def chat(*content: Any, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": each} for each in content or (PROMPT,)]
    return {"model": MODEL, "messages": messages, **fields}


def call(arguments: str) -> dict[str, Any]:
    function = {"name": "add", "arguments": arguments}
    calls = [{"id": "1", "type": "function", "function": function}]
    return chat(PROMPT) | {"messages": [{"role": "assistant", "tool_calls": calls}]}


PART = {"type": "text", "text": PROMPT}
ASKED: list[tuple[str, Any, int]] = [
    ("/generate", {"prompt": PROMPT}, 200),
    ("/generate", {"prompt": PROMPT, "stream": True}, 200),
    (CHAT, chat(), 200),
    (CHAT, chat(stream=True), 200),
    (EMBEDDINGS, {"model": MODEL, "input": PROMPT}, 200),
    (f"/generate?prompt={PROMPT}&key={KEY}", {"prompt": "x"}, 200),
    ("/generate", {"prompt": PROMPT, "model": PROMPT}, 404),
    ("/generate", {"prompt": PROMPT, NAME: PROMPT}, 400),
    ("/generate", {NAME: {NAME: PROMPT}}, 400),
    ("/generate", {"prompt": [PROMPT]}, 400),
    ("/generate", {"prompt": PROMPT, "seed": PROMPT, "stop": PROMPT, "max_tokens": PROMPT}, 400),
    ("/generate", {"prompt": PROMPT, "images": [PROMPT]}, 400),
    ("/generate", {"prompt": PROMPT, "images": [f"http://{PROMPT}/"]}, 400),
    ("/generate", {"prompt": PROMPT, "images": {NAME: PROMPT}}, 400),
    ("/generate", {"prompt": PROMPT * 2000}, 413),
    ("/generate", {"prompt": PROMPT * 4000}, 413),
    ("/generate", f'{{"prompt": "{PROMPT}'.encode(), 400),
    ("/generate", f'{{"prompt": {PROMPT}}}'.encode(), 400),
    ("/generate", f'{{"{NAME}'.encode(), 400),
    ("/generate", PROMPT.encode(), 400),
    ("/generate", f"prompt={PROMPT}".encode(), 400),
    ("/generate", f'{{"prompt": "{PROMPT}\xff"}}'.encode("latin-1"), 400),
    ("/generate", f'{{"prompt": "{PROMPT}\\ud800"}}'.encode(), 400),
    ("/generate", f'["{PROMPT}"]'.encode(), 400),
    (CHAT, chat([PART | {"type": PROMPT}]), 400),
    (CHAT, chat([PART | {"type": f"x' found using '{PROMPT}' does not match: {PROMPT}"}]), 400),
    (CHAT, chat([PART | {NAME: PROMPT}]), 400),
    (CHAT, chat([{"type": "image_url", "image_url": {"url": PROMPT}}]), 400),
    (CHAT, chat() | {"messages": [{"role": PROMPT, "content": PROMPT}]}, 400),
    (CHAT, chat(tool_choice=PROMPT, n=PROMPT), 400),
    (CHAT, chat(response_format={"type": PROMPT}), 400),
    (CHAT, call(PROMPT), 400),
    (CHAT, call(f'["{PROMPT}"]'), 400),
    (EMBEDDINGS, {"model": MODEL, "input": [PROMPT, {NAME: PROMPT}]}, 400),
    (EMBEDDINGS, {"model": MODEL, "input": PROMPT, "encoding_format": PROMPT}, 400),
    (MESSAGES, chat(max_tokens=9), 200),
    (MESSAGES, chat(max_tokens=9, stream=True), 200),
    (f"{MESSAGES}/count_tokens", chat(), 200),
    (MESSAGES, chat(max_tokens=9, model=PROMPT), 404),
    (MESSAGES, chat(PROMPT * 2000, max_tokens=9), 400),
    (MESSAGES, chat([PART | {"type": PROMPT}], max_tokens=9), 400),
    (MESSAGES, chat([PART | {NAME: PROMPT}], max_tokens=PROMPT), 400),
    (MESSAGES, chat([{"type": "image", "source": {"type": PROMPT, "url": PROMPT}}], max_tokens=9), 400),
    (MESSAGES, chat(max_tokens=9, tools=[{"type": PROMPT, "name": PROMPT}]), 400),
]
BAD_HEADERS: list[tuple[dict[str, str], int]] = [
    ({"Authorization": f"Bearer {KEY}{PROMPT}"}, 401),
    ({"Authorization": f"Basic {KEY}"}, 401),
    ({"Authorization": KEY}, 401),
    ({"X-API-Key": KEY}, 200),
    ({"X-API-Key": f"{KEY}{PROMPT}"}, 401),
    (AUTHORIZED | {"X-Priority": PROMPT}, 400),
    (AUTHORIZED | {"X-Request-Id": f"{PROMPT} {KEY}"}, 200),
    ({"Origin": f"https://{PROMPT}"}, 403),
    ({"Host": PROMPT}, 403),
]


def post(app: Flask, path: str, body: Any, headers: dict[str, str] = AUTHORIZED) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body)
    return app.test_client().post(path, data=data, headers=headers, buffered=True)


@pytest.mark.parametrize(("path", "body", "status"), ASKED, ids=lambda value: str(value)[:60])
def test_no_request_leaves_its_words_in_log_metrics_or_error(
    make: Make, caplog: pytest.LogCaptureFixture, path: str, body: Any, status: int
) -> None:
    app = make(max_body_bytes=60_000)
    reply = post(app, path, body)
    assert reply.status_code == status
    if status != 200:  # a field's name may be told to the caller who sent it
        assert not [canary for canary in (KEY, PROMPT, ANSWER) if canary in reply.text]
    assert not [canary for canary in CANARIES if canary in written(app, caplog)]


@pytest.mark.parametrize(("headers", "status"), BAD_HEADERS, ids=str)
def test_no_header_leaves_its_words(
    make: Make, caplog: pytest.LogCaptureFixture, headers: dict[str, str], status: int
) -> None:
    app = make()
    reply = post(app, "/generate", {"prompt": PROMPT}, headers)
    assert reply.status_code == status
    seen = written(app, caplog) + str(reply.headers) + (reply.text if status != 200 else "")
    assert not [canary for canary in CANARIES if canary in seen]


@pytest.mark.parametrize("status", [400, 404, 418, 500, 501, 503])
@pytest.mark.parametrize("text", [f"cannot read '{PROMPT}'", f"{PROMPT}: raw={ANSWER}, no memory", PROMPT])
@pytest.mark.parametrize("path", ["/generate", EMBEDDINGS])
def test_an_error_of_the_engine_that_quotes_the_prompt_is_not_logged(
    make: Make, stand_in: StandIn, caplog: pytest.LogCaptureFixture, status: int, text: str, path: str
) -> None:
    stand_in.error = (status, text)
    app = make()
    reply = post(app, path, {"prompt": PROMPT} if path == "/generate" else {"model": MODEL, "input": PROMPT})
    assert reply.status_code >= 400
    if status not in (400, 501):  # those are about the request, and go to the one who sent it
        assert not [canary for canary in CANARIES if canary in reply.text]
    assert not [canary for canary in CANARIES if canary in written(app, caplog)]


@contextmanager
def garbage(answer: bytes) -> Iterator[str]:
    """Serve an engine that answers every request with these bytes, and says that it holds the model."""
    held = json.dumps({"models": [{"name": f"{MODEL}:latest"}]}).encode()
    healthy = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(held), held)

    def serve() -> None:
        with suppress(OSError):  # the block has ended
            while True:
                connection, _ = server.accept()
                with connection:
                    request = connection.recv(1 << 20)
                    connection.sendall(healthy if request.startswith(b"GET /api/ps ") else answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: 5000\r\n\r\n"
LINE = json.dumps({"message": {"content": ANSWER}, "done": False}).encode() + b"\n"


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER.encode() + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + ANSWER.encode() + b"\r\n\r\n" + ANSWER.encode() + b"\n",
        HEAD + ANSWER.encode() + b"\n",
        HEAD + LINE + ANSWER.encode() + b"\xff\n",
        HEAD + LINE + b'"' + ANSWER.encode() + b'"\n',
        HEAD + LINE + json.dumps({ANSWER: ANSWER}).encode() + b"\n",
        HEAD + LINE + json.dumps({"error": f"at {ANSWER} of {PROMPT}"}).encode() + b"\n",
        HEAD + LINE[:-9],
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_answers_nonsense_leaves_none_of_it(
    make: Make, caplog: pytest.LogCaptureFixture, answer: bytes, stream: bool
) -> None:
    with garbage(answer) as url:
        app = make(ollama_host=url)
        app.config["PROPAGATE_EXCEPTIONS"] = False
        reply = post(app, "/generate", {"prompt": PROMPT, "stream": stream})
    if not stream:
        assert reply.status_code >= 500
        assert ANSWER not in reply.text
    assert not [canary for canary in CANARIES if canary in written(app, caplog)]


def test_a_fault_of_our_own_is_logged_with_its_place_and_without_its_words(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        try:
            {}[PROMPT]
        except KeyError as error:
            raise ValueError(f"can't do {PROMPT}") from error

    monkeypatch.setattr("service.question.generate", fail)
    app = make()
    reply = post(app, "/generate", {"prompt": PROMPT})
    assert (reply.status_code, reply.json["error"]["message"]) == (500, "an error of the server's own")
    text = written(app, caplog)
    assert "ValueError" in text
    assert "KeyError" in text
    assert f"{Path(__file__).name}" in text
    assert not [canary for canary in CANARIES if canary in reply.text + text]


def test_what_the_system_says_stays_in_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    try:
        Path("/nowhere").read_text()
    except OSError:
        logging.getLogger("sluice").exception("failed")
    assert "No such file or directory: '/nowhere'" in JsonFormatter().format(caplog.records[0])


def test_a_gateway_as_it_is_served_leaves_nothing_either(
    make_server: Callable[..., Served], stand_in: StandIn, keys_file: Path
) -> None:
    stand_in.tokens = ["It is ", ANSWER, "."]
    served = make_server(api_keys_file=keys_file, max_body_bytes=60_000)
    errors = [fetch(f"{served.url}{path}", body, AUTHORIZED) for path, body, _ in ASKED]
    errors += [fetch(f"{served.url}/generate", {"prompt": PROMPT}, headers) for headers, _ in BAD_HEADERS]
    assert [reply.status for reply in errors] == [status for *_, status in ASKED] + [s for _, s in BAD_HEADERS]
    for fault in ("die_at", "error_at", "end_at"):
        setattr(stand_in, fault, 2)
        errors += [fetch(f"{served.url}/generate", {"prompt": PROMPT}, AUTHORIZED)]
        setattr(stand_in, fault, None)
    eventually(lambda: sum(line["message"] == "request" for line in served.lines()) == len(errors))
    for text in (served.log.read_text(), fetch(f"{served.private}/metrics").body.decode()):
        assert not [canary for canary in CANARIES if canary in text]
    bodies = b"\n".join(reply.body for reply in errors if reply.status >= 400).decode()
    assert not [canary for canary in (KEY, PROMPT, ANSWER) if canary in bodies]


def test_no_class_of_errors_has_a_place_for_input() -> None:
    for kind in ServiceError.__subclasses__():
        assert PROMPT not in json.dumps(kind("a sentence").body())
