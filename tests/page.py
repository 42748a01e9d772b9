"""The page in a real Chromium, against a real HTTP server whose chat answers what each test scripts."""

import base64
import json
import os
import queue
import re
import select
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, request
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from werkzeug.serving import WSGIRequestHandler, make_server

from service.page import page_blueprint
from service.settings import Settings

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
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

    def __init__(self, *, vision: bool = True, **settings: Any) -> None:
        self.models = ["moondream"]
        self.answers: queue.Queue[Callable[[], Response]] = queue.Queue()
        self.received: list[tuple[dict[str, Any], str | None]] = []
        app = Flask("stand-in")
        app.register_blueprint(page_blueprint(settings=Settings(**settings), vision=lambda: vision))

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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        missing = f"{CHROMIUM} is missing: apt-get install -y chromium"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """A function that opens a gateway's page. Afterwards: no request left its origin, and the console is clean.

    Chromium itself logs a failed request; `failures` is a pattern for those that a test causes on purpose.
    """
    closers: list[Callable[[], Any]] = []
    origins: list[str] = []
    urls: list[str] = []
    complaints: list[str] = []
    wanted: list[str] = []

    def open_(gateway: Gateway, *, failures: str = "", clock: bool = False, **context: Any) -> Page:
        serving = gateway.serve()
        url = serving.__enter__()
        closers.append(lambda: serving.__exit__(None, None, None))
        opened = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **context)
        closers.append(opened.close)
        page = opened.new_page()
        page.set_default_timeout(WAIT * 1000)
        origins.append(url)
        wanted.append(failures)
        page.on("request", lambda request: urls.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
        if clock:
            page.clock.install()
        with page.expect_response("**/v1/models"):
            page.goto(url)
        return page

    yield open_
    for close in reversed(closers):
        close()
    assert [url for url in urls if not url.startswith((*origins, "data:", "blob:"))] == []
    assert [line for line in complaints if not any(w and re.search(w, line) for w in wanted)] == []


def png(width: int, height: int, *, noise: bool = False) -> bytes:
    """Return a PNG: white, or of noise that doesn't compress."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + (os.urandom(3 * width) if noise else b"\xff" * 3 * width) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


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
