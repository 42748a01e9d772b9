"""A target whose answer follows from the number at the start of a prompt, as the scenarios number them."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from tests.stand_in import MODEL

GOOD = {"response": "Because.", "model": MODEL, "finish_reason": "stop", "done": True, "done_reason": "stop"}
BUSY = (503, {"Retry-After": "0.01"}, {"error": {"code": "saturated"}})
CUT, RESET, HANG = "cut", "reset", "hang"  # instead of an answer
Answer = tuple[int, dict[str, str], Any] | str


@dataclass
class Answers:
    """What is answered to question N: the item N of `turns`, round and round, by how often N was asked before."""

    turns: Sequence[Sequence[Answer]] = (((200, {}, GOOD),),)
    model: str = MODEL
    url: str = ""
    prompts: list[str] = field(default_factory=list)  # without those that warm up
    streams: list[str] = field(default_factory=list)
    paths: Counter[str] = field(default_factory=Counter)
    asked: Event = field(default_factory=Event)
    over: Event = field(default_factory=Event)

    def answer(self, path: str, body: Any) -> Answer:
        """Return the answer to a body that was sent to a path."""
        prompt = body["prompt"]
        self.paths[path] += 1
        if body.get("stream"):
            self.streams.append(prompt)
        number = re.match(r"\d+", prompt)
        if not number:
            return 200, {}, GOOD | {"model": self.model}
        self.asked.set()
        self.prompts.append(prompt)
        tries = self.turns[int(number[0]) % len(self.turns)]
        return tries[min(self.prompts.count(prompt), len(tries)) - 1]


class Replying(BaseHTTPRequestHandler):
    """Replies with bytes, or anything else as JSON, and logs nothing."""

    def reply(self, status: int, headers: dict[str, str], body: Any) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def answering(*turns: Sequence[Answer]) -> Iterator[Answers]:
    """Serve them on a free port until the block ends; without turns every answer is a good one."""
    answers = Answers(turns) if turns else Answers()

    class Handler(Replying):
        def do_GET(self) -> None:
            self.reply(200, {}, {"data": [{"id": answers.model}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = answers.answer(self.path, body)
            if answer == HANG:
                answers.over.wait()
            elif answer == CUT:
                self.reply(200, {"Content-Length": "999"}, GOOD)
            elif not isinstance(answer, str):
                self.reply(*answer)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # clients that give up

    with Server(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        answers.url = f"http://127.0.0.1:{server.server_port}"
        yield answers
        answers.over.set()
        server.shutdown()
