"""An HTTP server that answers what a test wrote down: release files, or Ollama's set-up calls."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any


@dataclass
class Scripted:
    """The answers by path, as (status, body); a list as a body is sent line by line as JSON.

    A path may have several answers: one after the other, the last one from then on. HANG never answers.
    """

    answers: dict[str, list[tuple[int, Any]]]
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    url: str = ""
    ended: Event = field(default_factory=Event)

    def answer(self, path: str) -> tuple[int, Any]:
        """Return the next answer for a path."""
        answers = self.answers.get(path, [(404, {"error": "not found"})])
        return answers.pop(0) if len(answers) > 1 else answers[0]


HANG = object()


@contextmanager
def scripted(**answers: Any) -> Iterator[Scripted]:
    """Serve answers until the block ends; a keyword `api_pull` is the path /api/pull."""
    script = Scripted({"/" + path.replace("_", "/"): _answers(answer) for path, answer in answers.items()})
    server = _Server(("127.0.0.1", 0), _Handler)
    server.script = script
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield script
    finally:
        script.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _answers(answer: Any) -> list[tuple[int, Any]]:
    every = answer if isinstance(answer, list) and answer and isinstance(answer[0], tuple) else [answer]
    return [one if isinstance(one, tuple) else (200, one) for one in every]


class _Server(ThreadingHTTPServer):
    script: Scripted


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        self._reply()

    def do_POST(self) -> None:
        self._reply()

    def _reply(self) -> None:
        script = self.server.script
        script.requests.append((self.path, self.rfile.read(int(self.headers.get("Content-Length", 0)))))
        status, body = script.answer(self.path)
        if body is HANG:
            script.ended.wait()
            return
        data = body if isinstance(body, bytes) else b"".join(_lines(body))
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Write nothing."""


def _lines(body: Any) -> list[bytes]:
    return [json.dumps(line).encode() + b"\n" for line in (body if isinstance(body, list) else [body])]
