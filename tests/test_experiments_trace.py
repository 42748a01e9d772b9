"""The trace, and its client against a server that answers, refuses, stalls and breaks off."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from experiments.stages import SECONDS
from experiments.trace import PHASES, Question, replay, trace

LONG = 30.0
Step = tuple[int, dict[str, str], dict[str, Any]]
ANSWER: Step = (200, {}, {"response": "word", "finish_reason": "stop"})
REFUSAL: Step = (503, {"Retry-After": "1"}, {"error": {}})


class Server(ThreadingHTTPServer):
    """Answers each prompt with the next of what is scripted for it; None answers nothing for long."""

    daemon_threads = True

    def __init__(self, *script: Any) -> None:
        self.script, self.lock, self.stop = list(script), threading.Lock(), threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            step = self.server.script.pop(0)
        if step is None:
            self.server.stop.wait(LONG)
            return
        status, headers, body = step
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    made: list[Server] = []
    yield made
    for server in made:
        server.stop.set()
        server.shutdown()
        server.server_close()


def play(servers: list[Server], *script: Any, scale: float = 1, due: float = 0) -> Question:
    """Ask one question of a server with this script."""
    servers.append(Server(*script))
    question = Question(0, due)
    asyncio.run(replay("test", servers[-1].url, [question], scale=scale))
    return question


def outcomes(question: Question) -> list[str]:
    return [attempt.outcome for attempt in question.attempts]


def test_the_same_trace_comes_every_time_and_another_for_more_pods() -> None:
    assert trace(4, scale=1) == trace(4, scale=1)
    assert len(trace(10, scale=1)) > 2 * len(trace(4, scale=1))
    assert [q.due for q in trace(4, scale=0.5)] == pytest.approx([q.due / 2 for q in trace(4, scale=1)])


def test_its_load_is_what_the_phases_say() -> None:
    questions = trace(400, scale=1)
    began = 0.0
    for seconds, load in PHASES:
        count = sum(began <= question.due < began + seconds for question in questions)
        assert count * SECONDS / (400 * seconds) == pytest.approx(load, rel=0.06)
        began += seconds


def test_a_question_is_asked_when_it_is_due(servers: list[Server]) -> None:
    before = time.time()
    question = play(servers, ANSWER, due=0.3)
    assert 0.3 <= question.attempts[0].sent - before < 0.8
    assert outcomes(question) == ["answered"]


def test_a_refusal_is_followed_when_it_said(servers: list[Server]) -> None:
    question = play(servers, REFUSAL, ANSWER)
    assert outcomes(question) == ["refused", "answered"]
    assert 1 <= question.attempts[1].sent - question.attempts[0].ended < 1.5
    assert question.took >= 1


def test_what_fails_is_asked_again_three_times(servers: list[Server]) -> None:
    half: Step = (200, {}, {"response": "word"})
    failure: Step = (502, {}, {"error": {}})
    question = play(servers, failure, half, failure, failure)
    assert outcomes(question) == ["error"] * 4
    assert question.outcome == "error"


def test_a_client_has_patience_for_so_long_only(servers: list[Server]) -> None:
    question = play(servers, None, ANSWER, scale=0.005)
    assert outcomes(question) == ["timeout", "answered"]
    assert 0.4 <= question.attempts[0].ended - question.attempts[0].sent < 1
