"""A web server whose answers a test has written down: by path, in turn, or as a function of the request."""

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, NamedTuple, Self

HANG, RESET = "hang", "reset"  # instead of an answer
# Status, headers and body: bytes as they are, a list line by line as JSON, anything else as JSON.
Answer = tuple[int, dict[str, str], Any] | str


class Request(NamedTuple):
    """A request that came."""

    path: str
    body: bytes
    headers: dict[str, str]
    method: str


class Stub(ThreadingHTTPServer):
    """The server; `requests` are those that came, in turn."""

    daemon_threads = True

    def __init__(
        self, answer: Callable[[Request], Answer], host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__((host, 0), _Handler)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.answer = answer
        self.requests: list[Request] = []
        self.ended = Event()
        self.url = f"{'https' if tls else 'http'}://{host}:{self.server_port}"
        self._thread = Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    def start(self) -> Self:
        """Serve until stop()."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Serve no more, and let those go that hang."""
        self.ended.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that give up."""


@contextmanager
def stub(answer: Callable[[Request], Answer], tls: ssl.SSLContext | None = None) -> Iterator[Stub]:
    """Serve what `answer` returns for each request, until the block ends."""
    server = Stub(answer, tls=tls).start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def scripted(**answers: Any) -> Iterator[Stub]:
    """Serve answers by path until the block ends; a keyword `api_pull` is the path /api/pull.

    An answer is a body, (status, body) or HANG. A path may have a list of them as tuples: one after the other, the
    last one from then on.
    """
    left = {"/" + path.replace("_", "/"): _answers(answer) for path, answer in answers.items()}

    def answer(request: Request) -> Answer:
        return in_turn(left.get(request.path, [(404, {}, {"error": "not found"})]))

    with stub(answer) as server:
        yield server


def in_turn(answers: list[Answer]) -> Answer:
    """Take the next answer; the last one stays."""
    return answers.pop(0) if len(answers) > 1 else answers[0]


def _answers(answer: Any) -> list[Answer]:
    every = answer if isinstance(answer, list) and answer and isinstance(answer[0], tuple) else [answer]
    return [_answer(one) for one in every]


def _answer(answer: Any) -> Answer:
    if answer == HANG:
        return HANG
    status, body = answer if isinstance(answer, tuple) else (200, answer)
    return status, {}, body


class _Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.path, body, dict(self.headers), self.command)
        self.server.requests.append(request)
        answer = self.server.answer(request)
        if answer == HANG:
            self.server.ended.wait()
        elif not isinstance(answer, str):
            self._reply(*answer)

    do_DELETE = do_POST = do_PUT = do_GET

    def _reply(self, status: int, headers: dict[str, str], body: Any) -> None:
        lines = body if isinstance(body, list) else [body]
        data = body if isinstance(body, bytes) else b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Write nothing."""
