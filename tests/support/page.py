"""The page in a real Chromium, against a real HTTP server whose chat answers what each test scripts."""

import base64
import json
import os
import queue
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask, Response, request
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from werkzeug.serving import WSGIRequestHandler, make_server

from service import create_models
from service.page import page_blueprint
from service.settings import Settings
from testbed.pictures import encoded

WAIT = 15.0  # seconds until a condition that should hold counts as missed
USAGE = {"prompt_tokens": 7, "completion_tokens": 41, "total_tokens": 48}
STREAMED = {"stream": True, "stream_options": {"include_usage": True}}

expect.set_options(timeout=WAIT * 1000)


def client_left(client: socket.socket) -> bool:
    """Tell whether the other end of the connection has closed it."""
    readable, _, _ = select.select([client], [], [], 0)
    return bool(readable) and client.recv(1, socket.MSG_PEEK) == b""


class Stream:
    """A streamed answer whose pieces the test sends one by one; knows when the client leaves."""

    def __init__(self) -> None:
        self.events: queue.Queue[bytes | None] = queue.Queue()
        self.left, self.cuts = threading.Event(), threading.Event()

    def _put(self, delta: dict[str, Any], reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        self.put({"model": "moondream", "choices": [choice], "usage": None})

    def put(self, event: Any) -> None:
        """Send an object of any kind."""
        self.events.put(f"data: {json.dumps(event)}\n\n".encode())

    def send(self, *texts: str) -> None:
        for text in texts:
            self._put({"content": text})

    def think(self, *texts: str) -> None:
        for text in texts:
            self._put({"reasoning_content": text})

    def end(self, *, reason: str = "stop", usage: dict[str, int] = USAGE) -> None:
        """End the answer as the gateway does."""
        self._put({}, reason)
        self.put({"model": "moondream", "choices": [], "usage": usage})
        self.events.put(b"data: [DONE]\n\n")
        self.close()

    def close(self) -> None:
        """Let the answer be over here."""
        self.events.put(None)

    def cut(self) -> None:
        """Close the connection in the middle of the answer."""
        self.cuts.set()

    def __call__(self) -> Response:
        client: socket.socket = request.environ["werkzeug.socket"]

        def body() -> Iterator[bytes]:
            while not self.left.is_set():
                try:
                    event = self.events.get(timeout=0.02)
                except queue.Empty:
                    if self.cuts.is_set():
                        client.shutdown(socket.SHUT_RDWR)
                    if client_left(client):
                        self.left.set()
                    continue
                if event is None:
                    return
                yield event

        return Response(body(), mimetype="text/event-stream", headers={"X-Request-Id": "request-1"})


def answered(*texts: str, **end: Any) -> Stream:
    """Return an answer that is complete."""
    stream = Stream()
    stream.send(*texts)
    stream.end(**end)
    return stream


def refusal(status: int, code: str, message: str, hint: str | None = None, **headers: str) -> Callable[[], Response]:
    """Return an answer that is an error, as the gateway writes it."""
    body = json.dumps({"error": {"code": code, "message": message, "hint": hint}})
    sent = {"X-Request-Id": "request-2", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return lambda: Response(body, status=status, mimetype="application/json", headers=sent)


class Handler(WSGIRequestHandler):
    """HTTP/1.1 as gunicorn speaks it, so that streams are chunked; quiet."""

    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


class Gateway:
    """The page, `/v1/models`, and a chat that gives `answers` in turn and keeps what it was sent."""

    def __init__(
        self, *, chats: bool = True, vision: bool = True, others: dict[str, list[str]] | None = None, **settings: Any
    ) -> None:
        """Take the settings. chats, vision: what the model can do; others: further models, and what each can do."""
        self.models = ["moondream", *(others or {})]
        self.answers: queue.Queue[Callable[[], Response]] = queue.Queue()
        self.received: list[tuple[dict[str, Any], str | None]] = []
        app = Flask("stand-in")
        served = create_models(Settings(**{"model": " ".join(self.models), **settings}))
        own = ["completion", *(["vision"] if vision else [])] if chats else ["embedding"]
        capabilities = [own, *(others or {}).values()]
        for gateway, can in zip(served.gateways, capabilities, strict=True):
            gateway.watch.capabilities = frozenset(can)
        app.register_blueprint(page_blueprint(served))

        @app.get("/v1/models")
        def models() -> dict[str, Any]:
            return {"object": "list", "data": [{"id": model, "object": "model"} for model in self.models]}

        @app.post("/v1/chat/completions")
        def chat() -> Response:
            self.received.append((request.get_json(), request.headers.get("Authorization")))
            return self.answers.get(timeout=WAIT)()

        self.app = app

    @property
    def sent(self) -> dict[str, Any]:
        """The JSON of the only request."""
        assert len(self.received) == 1
        return self.received[0][0]

    @property
    def messages(self) -> list[tuple[str, Any]]:
        """The role and content of each message in the last request."""
        return [(message["role"], message["content"]) for message in self.received[-1][0]["messages"]]

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Run the server; yields its URL."""
        server = make_server("127.0.0.1", 0, self.app, threaded=True, request_handler=Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


Open = Callable[..., Page]


def png(width: int, height: int, *, noise: bool = False) -> bytes:
    """Return a PNG: white, or of noise that doesn't compress."""
    if noise:
        return encoded(Image.frombytes("RGB", (width, height), os.urandom(3 * width * height)))
    return encoded(Image.new("RGB", (width, height), "white"))


def hand_over(page: Page, event: str, *files: tuple[str, str, bytes]) -> None:
    """Drop or paste files, each given as name, type and content."""
    packed = [(name, kind, base64.b64encode(data).decode()) for name, kind, data in files]
    page.evaluate(
        """([event, files]) => {
          const data = new DataTransfer();
          for (const [name, type, text] of files)
            data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name, { type }));
          const init = { bubbles: true, cancelable: true };
          const made = event === "paste" ? new ClipboardEvent(event, { ...init, clipboardData: data })
                                         : new DragEvent(event, { ...init, dataTransfer: data });
          document.getElementById("prompt").dispatchEvent(made);
        }""",
        [event, packed],
    )


def message(page: Page) -> Locator:
    """Return the field for the next question."""
    return page.get_by_label("Message", exact=True)


def ask(page: Page, prompt: str) -> Locator:
    """Send a question; return its turn."""
    turns = page.locator(".turn").count()
    message(page).fill(prompt)
    page.get_by_role("button", name="Send").click()
    return page.locator(".turn").nth(turns)


def button(place: Page | Locator, name: str) -> Locator:
    return place.get_by_role("button", name=name, exact=True)


def expect_state(turn: Locator, state: str) -> None:
    expect(turn).to_have_attribute("data-state", state)


def converse(page: Page, gateway: Gateway, *turns: tuple[str, str]) -> None:
    """Have each question answered."""
    for question, answer in turns:
        gateway.answers.put(answered(answer))
        expect_state(ask(page, question), "done")


def decoded(part: dict[str, Any]) -> bytes:
    """Return the image in a part of a message, and check that its URL tells its type."""
    head, _, data = part["image_url"]["url"].partition(",")
    image = base64.b64decode(data, validate=True)
    assert head == ("data:image/png;base64" if image.startswith(b"\x89PNG") else "data:image/jpeg;base64")
    return image
