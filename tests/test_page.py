"""The page in a real Chromium, against a real HTTP server whose `/generate` answers what each test scripts."""

import base64
import json
import os
import queue
import re
import select
import socket
import struct
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, request
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright
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
DONE = {
    "response": "",
    "done": True,
    "model": "moondream",
    "finish_reason": "stop",
    "usage": {"prompt_tokens": 7, "completion_tokens": 41},
    "timings": {"queued_ms": 250.0, "first_token_ms": 300.0, "total_ms": 1300.0},
}

expect.set_options(timeout=WAIT * 1000)


def client_left(client: socket.socket) -> bool:
    """Tell whether the other end of the connection has closed it."""
    readable, _, _ = select.select([client], [], [], 0)
    return bool(readable) and client.recv(1, socket.MSG_PEEK) == b""


class Stream:
    """A streamed answer whose lines the test sends one by one; knows when the client leaves."""

    def __init__(self) -> None:
        self.lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.left = threading.Event()

    def send(self, *texts: str) -> None:
        for text in texts:
            self.lines.put({"response": text})

    def end(self, line: dict[str, Any] | None = None) -> None:
        """Send `line`, if any, as the last one, and close."""
        if line:
            self.lines.put(line)
        self.lines.put(None)

    def __call__(self) -> Response:
        client: socket.socket = request.environ["werkzeug.socket"]

        def body() -> Iterator[bytes]:
            while not self.left.is_set():
                try:
                    line = self.lines.get(timeout=0.02)
                except queue.Empty:
                    if client_left(client):
                        self.left.set()
                    continue
                if line is None:
                    return
                yield json.dumps(line).encode() + b"\n"

        return Response(body(), mimetype="application/x-ndjson", headers={"X-Request-Id": "request-1"})


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
    """The page, `/v1/models`, and a `/generate` that gives `answers` in turn and keeps what it was sent."""

    def __init__(self, *, vision: bool = True, **settings: Any) -> None:
        self.answers: queue.Queue[Callable[[], Response]] = queue.Queue()
        self.received: list[tuple[dict[str, Any], str | None]] = []
        app = Flask("stand-in")
        app.register_blueprint(page_blueprint(settings=Settings(**settings), vision=lambda: vision))

        @app.get("/v1/models")
        def models() -> dict[str, Any]:
            return {"object": "list", "data": [{"id": "moondream", "object": "model"}]}

        @app.post("/generate")
        def generate() -> Response:
            self.received.append((request.get_json(), request.headers.get("Authorization")))
            return self.answers.get(timeout=WAIT)()

        self.app = app

    @property
    def sent(self) -> dict[str, Any]:
        """The JSON of the only request."""
        assert len(self.received) == 1
        return self.received[0][0]

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


def bmp(width: int, height: int) -> bytes:
    """Return a black BMP; `width` is a multiple of 4."""
    pixels = bytes(3 * width * height)
    return struct.pack("<2sIIIIiiHHIIiiII", b"BM", 54 + len(pixels), 0, 54, 40, width, height, 1, 24, *[0] * 6) + pixels


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


def ask(page: Page, prompt: str) -> None:
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_role("button", name="Send").click()


def sent_image(page: Page, gateway: Gateway) -> bytes:
    """Send a prompt with what is attached; return the one image that the server got."""
    gateway.answers.put(stream := Stream())
    stream.end(DONE)
    ask(page, "What is this?")
    expect(page.locator("#state")).to_have_text("Done")
    (image,) = gateway.sent["images"]
    return base64.b64decode(image, validate=True)


# The page as such


def test_page_has_a_strict_policy_with_a_nonce_of_its_own() -> None:
    client = Gateway().app.test_client()
    first, second = client.get("/"), client.get("/")
    policies = [response.headers["Content-Security-Policy"] for response in (first, second)]
    nonces = [set(re.findall(r"'nonce-([\w-]{20,})'", policy)) for policy in policies]
    assert len(nonces[0]) == len(nonces[1]) == 1 and nonces[0] != nonces[1]
    assert policies[0].replace(nonces[0].pop(), "N") == (
        "default-src 'none'; script-src 'nonce-N'; style-src 'nonce-N'; connect-src 'self'; "
        "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert first.headers["X-Content-Type-Options"] == "nosniff"
    assert first.headers["Referrer-Policy"] == "no-referrer"
    assert first.headers["Cache-Control"] == "no-store"
    assert first.headers["Content-Type"] == "text/html; charset=utf-8"


def test_page_names_the_model_and_says_that_the_server_is_up(open_page: Open) -> None:
    page = open_page(Gateway())
    expect(page.get_by_role("heading", level=1)).to_have_text("moondream")
    expect(page.locator("#status")).to_have_text(re.compile(r"Up\s+It reads text and images\."))


def test_model_name_cannot_inject_markup(open_page: Open) -> None:
    gateway = Gateway(model="</script><img src=x onerror=alert(1)>")
    html = gateway.app.test_client().get("/").text
    assert "<img src=x" not in html and html.count("</script>") == 2


def test_status_shows_when_the_server_is_gone_and_back(open_page: Open) -> None:
    page = open_page(Gateway(), clock=True, failures="ERR_INTERNET_DISCONNECTED")
    page.context.set_offline(True)
    page.clock.fast_forward(15_000)
    expect(page.locator("#status")).to_contain_text("Not reachable")
    page.context.set_offline(False)
    expect(page.locator("#status")).to_contain_text("Up")


# An answer


def test_answer_is_shown_piece_by_piece_with_its_figures(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    gateway.answers.put(stream := Stream())
    ask(page, "Why is the sky blue?")
    expect(page.locator("#state")).to_have_text("Waiting for the first token …")
    stream.send("Because")
    expect(page.locator("#answer")).to_have_text("Because")
    expect(page.locator("#first")).to_have_text(re.compile(r"^\d+(\.\d+)? s$"))
    stream.send(" of", " Rayleigh scattering.")
    expect(page.locator("#answer")).to_have_text("Because of Rayleigh scattering.")
    expect(page.locator("#speed")).to_have_text(re.compile(r"^\d+\.\d$"))
    expect(page.locator("#tokens")).to_have_text("3")
    stream.end(DONE)
    expect(page.locator("#state")).to_have_text("Done")
    expect(page.locator("#speed")).to_have_text("40.0")  # 41 tokens: 40 intervals in the second after the first token
    expect(page.locator("#tokens")).to_have_text("41")
    expect(page.locator("#after")).to_have_text("7 prompt tokens. Waited 0.25 s for a free slot.")
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    assert gateway.received == [({"prompt": "Why is the sky blue?", "stream": True}, None)]


def test_answer_is_text_and_never_markup(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    gateway.answers.put(stream := Stream())
    stream.send("<img src=x onerror=alert(1)>", "<b>\n  é ")
    stream.end({**DONE, "finish_reason": "length"})
    ask(page, "Write HTML")
    expect(page.locator("#after")).to_contain_text("Cut off at the limit of tokens.")
    assert page.locator("#answer").evaluate("node => node.textContent") == "<img src=x onerror=alert(1)><b>\n  é "
    assert page.locator("#answer *").count() == 0


def test_characters_split_between_two_packets_arrive_whole(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    parts: queue.Queue[bytes] = queue.Queue()
    answer = b'{"response": "caf\xc3\xa9"}\n' + json.dumps(DONE).encode()  # without the last newline
    gateway.answers.put(lambda: Response(iter(parts.get, b""), mimetype="application/x-ndjson"))
    ask(page, "Coffee?")
    parts.put(answer[:18])
    expect(page.locator("#state")).to_have_text("Waiting for the first token …")
    parts.put(answer[18:])
    parts.put(b"")
    expect(page.locator("#answer")).to_have_text("café")
    expect(page.locator("#state")).to_have_text("Done")


@pytest.mark.parametrize("how", ["button", "escape"])
def test_stop_closes_the_connection_and_keeps_the_text(open_page: Open, how: str) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    gateway.answers.put(stream := Stream())
    ask(page, "Tell me a long story")
    stream.send("Once upon")
    expect(page.locator("#answer")).to_have_text("Once upon")
    if how == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")
    assert stream.left.wait(WAIT)
    expect(page.locator("#state")).to_have_text("Stopped")
    expect(page.locator("#answer")).to_have_text("Once upon")
    expect(page.locator("#fault")).to_be_hidden()


def test_stop_works_before_the_first_token(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    gateway.answers.put(stream := Stream())
    ask(page, "Slow")
    page.get_by_role("button", name="Stop").click()
    assert stream.left.wait(WAIT)
    expect(page.locator("#state")).to_have_text("Stopped")
    expect(page.locator("#first")).to_have_text("–")


@pytest.mark.parametrize("keys", ["Control+Enter", "Meta+Enter"])
def test_keyboard_sends_with_every_option(open_page: Open, keys: str) -> None:
    gateway = Gateway(max_tokens=100)
    page = open_page(gateway)
    gateway.answers.put(stream := Stream())
    stream.end(DONE)
    page.get_by_role("button", name="Options").click()
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Longest answer, in tokens").fill("64")
    page.get_by_label("Temperature").fill("0.2")
    page.get_by_label("Prompt", exact=True).fill("Hello")
    page.keyboard.press(keys)
    expect(page.locator("#state")).to_have_text("Done")
    assert gateway.sent == {
        "prompt": "Hello", "stream": True, "system": "Be brief.", "max_tokens": 64, "temperature": 0.2
    }  # fmt: skip


def test_option_out_of_range_is_shown_and_not_sent(open_page: Open) -> None:
    gateway = Gateway(max_tokens=100)
    page = open_page(gateway)
    page.get_by_role("button", name="Options").click()
    page.get_by_label("Longest answer, in tokens").fill("101")
    page.get_by_role("button", name="Options").click()
    ask(page, "Hello")
    expect(page.get_by_label("Longest answer, in tokens")).to_be_focused()
    assert gateway.received == []


def test_empty_prompt_is_not_sent(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    ask(page, "  ")
    expect(page.get_by_role("alert")).to_have_text("Type a prompt first.")
    assert gateway.received == []


# Faults


def test_error_in_the_stream_is_shown_under_what_came_before(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    gateway.answers.put(stream := Stream())
    stream.send("The answer is")
    stream.end({"error": {"code": "engine_failed", "message": "The model broke off.", "hint": "Ask again."}})
    ask(page, "?")
    expect(page.get_by_role("alert").filter(visible=True)).to_have_text(re.compile(r"broke off\.\s*Ask again\."))
    expect(page.locator("#answer")).to_have_text("The answer is")
    expect(page.locator("#fault-id")).to_have_text("Request request-1")
    expect(page.locator("#state")).to_have_text("Broken off")
    expect(page.get_by_role("button", name="Try again")).to_be_enabled()


def test_stream_that_ends_without_its_last_line_is_a_fault(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    gateway.answers.put(stream := Stream())
    stream.send("Half an")
    stream.end()
    ask(page, "?")
    expect(page.locator("#fault")).to_contain_text("The answer broke off.")


@pytest.mark.parametrize(("status", "code"), [(503, "saturated"), (429, "quota_exceeded")])
def test_refusal_counts_down_and_then_tries_again(open_page: Open, status: int, code: str) -> None:
    gateway = Gateway()
    page = open_page(gateway, clock=True, failures=f"status of {status}")
    gateway.answers.put(refusal(status, code, "Every slot is busy.", "Come back later.", Retry_After="7"))
    ask(page, "Hello")
    expect(page.locator("#fault")).to_have_text(
        re.compile(r"Every slot is busy\.\s*Come back later\.\s*Request request-2")
    )
    again = page.get_by_role("button", name="Try again")
    expect(again).to_be_disabled()
    expect(page.locator("#countdown")).to_have_text(re.compile("The server asks to wait: [67] s"))
    page.clock.fast_forward(4_000)
    expect(page.locator("#countdown")).to_have_text(re.compile("The server asks to wait: [23] s"))
    page.clock.fast_forward(3_000)
    expect(page.locator("#countdown")).to_be_hidden()
    gateway.answers.put(stream := Stream())
    stream.send("Hi")
    stream.end(DONE)
    again.click()
    expect(page.locator("#answer")).to_have_text("Hi")
    expect(page.locator("#fault")).to_be_hidden()
    assert [body["prompt"] for body, _ in gateway.received] == ["Hello", "Hello"]


def test_invalid_request_offers_no_second_try(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway, failures="status of 413")
    gateway.answers.put(refusal(413, "prompt_too_long", "prompt: is too long", "shorten it"))
    ask(page, "Hello")
    expect(page.locator("#fault")).to_have_text(re.compile(r"^\s*prompt: is too long\s*Shorten it\s"))
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()


def test_answer_of_a_proxy_is_shown_in_words(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway, failures="status of 502")
    gateway.answers.put(lambda: Response("<h1>Bad gateway</h1>", status=502))
    ask(page, "Hello")
    expect(page.locator("#fault")).to_contain_text("The server answered 502.")
    expect(page.locator("#status")).to_contain_text("Not reachable")


def test_server_that_cannot_be_reached_is_shown_in_words(open_page: Open) -> None:
    page = open_page(Gateway(), failures="ERR_INTERNET_DISCONNECTED")
    page.context.set_offline(True)
    ask(page, "Hello")
    expect(page.locator("#fault")).to_contain_text("The server can’t be reached.")
    expect(page.locator("#status")).to_contain_text("Not reachable")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("Hello")


# Images


@pytest.mark.parametrize("how", ["drop", "paste", "pick"])
def test_png_goes_to_the_server_as_it_is(open_page: Open, how: str) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    image = png(20, 10)
    if how == "pick":
        page.get_by_label("Image files").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": image})
    else:
        hand_over(page, how, ("a.png", "image/png", image))
    expect(page.get_by_role("listitem")).to_contain_text("a.png")
    assert sent_image(page, gateway) == image


@pytest.mark.parametrize(
    ("name", "kind", "data", "size"),
    [
        ("a.webp", "image/webp", base64.b64decode("UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA"), (1, 1)),
        ("a.svg", "image/svg+xml", b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"/>', (40, 30)),
        ("bmp.png", "image/png", bmp(8, 6), (8, 6)),  # the content decides, not the name
    ],
)
def test_other_types_become_jpeg(open_page: Open, name: str, kind: str, data: bytes, size: tuple[int, int]) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    hand_over(page, "drop", (name, kind, data))
    expect(page.get_by_role("listitem")).to_contain_text(f"{size[0]} × {size[1]} JPEG")
    image = sent_image(page, gateway)
    assert image.startswith(b"\xff\xd8\xff")
    assert Image.open(BytesIO(image)).size == size


def test_image_with_too_many_pixels_is_scaled_down(open_page: Open) -> None:
    gateway = Gateway(max_image_pixels=5000)
    page = open_page(gateway)
    hand_over(page, "drop", ("big.png", "image/png", png(200, 100)))
    expect(page.get_by_role("listitem")).to_contain_text("100 × 50 JPEG")
    assert Image.open(BytesIO(sent_image(page, gateway))).size == (100, 50)


def test_images_are_made_to_fit_the_request(open_page: Open) -> None:
    limit = 60_000
    gateway = Gateway(max_body_bytes=limit)
    page = open_page(gateway)
    small = png(30, 30, noise=True)
    big = png(300, 300, noise=True)
    hand_over(page, "drop", ("small.png", "image/png", small), ("big.png", "image/png", big))
    expect(page.get_by_role("listitem")).to_have_count(2)
    gateway.answers.put(stream := Stream())
    stream.end(DONE)
    ask(page, "é" * 5000)
    expect(page.locator("#state")).to_have_text("Done")
    assert len(json.dumps(gateway.sent, ensure_ascii=False).encode()) < limit
    first, second = (base64.b64decode(image) for image in gateway.sent["images"])
    assert first == small
    width, height = Image.open(BytesIO(second)).size
    assert second.startswith(b"\xff\xd8\xff") and width == height and 64 < int(width) < 300


def test_file_that_is_no_image_is_refused_in_words(open_page: Open) -> None:
    page = open_page(Gateway())
    hand_over(page, "drop", ("notes.png", "image/png", b"not an image"))
    expect(page.get_by_role("alert")).to_have_text("notes.png can’t be read as an image.")
    expect(page.get_by_role("listitem")).to_have_count(0)


def test_images_can_be_removed_and_have_a_limit(open_page: Open) -> None:
    page = open_page(Gateway(max_images=1))
    hand_over(page, "drop", ("a.png", "image/png", png(2, 2)), ("b.png", "image/png", png(2, 2)))
    expect(page.get_by_role("alert")).to_have_text("At most 1 image can go into one request.")
    page.get_by_role("button", name="Remove a.png").click()
    expect(page.get_by_role("listitem")).to_have_count(0)


def test_image_alone_asks_for_a_description(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    hand_over(page, "drop", ("a.png", "image/png", png(2, 2)))
    gateway.answers.put(stream := Stream())
    stream.end(DONE)
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#state")).to_have_text("Done")
    assert gateway.sent["prompt"] == "Describe this image."
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("Describe this image.")


def test_model_without_vision_has_no_image_control(open_page: Open) -> None:
    page = open_page(Gateway(vision=False))
    expect(page.get_by_role("button", name="Options")).to_be_visible()
    expect(page.get_by_role("button", name="Add image")).to_have_count(0)
    expect(page.locator("#status")).to_contain_text("It reads text.")
    hand_over(page, "drop", ("a.png", "image/png", png(2, 2)))
    expect(page.get_by_role("alert")).to_have_text("moondream reads text only.")


# Keys, curl, theme, small screens


def test_key_is_sent_and_kept_in_the_tab_only(open_page: Open) -> None:
    gateway = Gateway(api_keys_file="keys.toml")
    page = open_page(gateway, failures="status of 401")
    expect(page.get_by_label("API key")).to_be_focused()
    gateway.answers.put(refusal(401, "unauthorized", "This server needs an API key."))
    ask(page, "Hello")
    expect(page.locator("#fault")).to_contain_text("This server needs an API key.")
    expect(page.get_by_label("API key")).to_be_focused()
    page.get_by_label("API key").fill("secret")
    page.reload()
    expect(page.get_by_label("API key")).to_have_value("secret")
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    gateway.answers.put(stream := Stream())
    stream.end(DONE)
    ask(page, "Hello")
    expect(page.locator("#state")).to_have_text("Done")
    assert [key for _, key in gateway.received] == [None, "Bearer secret"]


def test_no_key_field_without_keys(open_page: Open) -> None:
    expect(open_page(Gateway()).get_by_label("API key")).to_have_count(0)


@pytest.mark.parametrize("prompt", ['It\'s $HOME, `id`, \\n and "quotes"\nin two lines é', "plain"])
@pytest.mark.parametrize("images", [[], ["it's a $(cat) picture.png"]])
def test_copied_curl_line_sends_the_same(open_page: Open, tmp_path: Path, prompt: str, images: list[str]) -> None:
    gateway = Gateway(api_keys_file="keys.toml")
    page = open_page(gateway)
    for name in images:
        (tmp_path / name).write_bytes(png(200, 200, noise=True))  # far longer than an argument may be
        hand_over(page, "drop", (name, "image/png", (tmp_path / name).read_bytes()))
        expect(page.get_by_role("listitem")).to_have_count(1)
    page.get_by_label("API key").fill("secret")
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_text("The same with curl").click()
    page.locator("#curl").get_by_role("button").click()
    expect(page.locator("#curl").get_by_role("button")).to_have_text("Copied")
    line = page.evaluate("navigator.clipboard.readText()")
    for _ in range(2):
        gateway.answers.put(stream := Stream())
        stream.end(DONE)
    environ = {"PATH": os.environ["PATH"], "SLUICE_API_KEY": "secret"}
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=environ, capture_output=True, check=True)
    assert json.loads(done.stdout) == DONE
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#state")).to_have_text("Done")
    by_curl, by_page = gateway.received
    assert by_curl == by_page


def brightness(page: Page) -> int:
    """Return the background's brightness, 0 to 255."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return int(re.findall(r"\d+", colour)[0])


def test_theme_follows_the_system_until_it_is_chosen(open_page: Open) -> None:
    page = open_page(Gateway(), color_scheme="dark")
    toggle = page.get_by_role("button", name="Dark theme")
    expect(toggle).to_have_attribute("aria-pressed", "true")
    assert brightness(page) < 40
    page.emulate_media(color_scheme="light")
    expect(toggle).to_have_attribute("aria-pressed", "false")
    assert brightness(page) > 220
    toggle.click()
    assert brightness(page) < 40
    page.reload()
    expect(toggle).to_have_attribute("aria-pressed", "true")
    assert brightness(page) < 40
    toggle.click()
    assert brightness(page) > 220
    assert page.evaluate("localStorage.length") == 0  # the same as the system's: nothing to remember


def test_nothing_is_wider_than_a_small_screen(open_page: Open) -> None:
    gateway = Gateway(model="hf.co/somebody/A-Model-With-A-Very-Long-Name-1.5B-Instruct-GGUF:Q4_K_M")
    page = open_page(gateway, viewport={"width": 360, "height": 700}, failures="status of 503")
    hand_over(page, "drop", ("a" * 80 + ".png", "image/png", png(20, 20)))
    expect(page.get_by_role("listitem")).to_have_count(1)
    page.get_by_role("button", name="Options").click()
    page.get_by_text("The same with curl").click()
    gateway.answers.put(refusal(503, "saturated", "Every slot is busy." * 9, Retry_After="70"))
    ask(page, "word" * 100)
    expect(page.locator("#fault")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_policy_stops_what_did_not_come_with_the_page(open_page: Open) -> None:
    page = open_page(Gateway(), failures="Content Security Policy")

    def answer(route: Route) -> None:
        route.fulfill(body="reached")

    page.route("http://elsewhere.invalid/**", answer)
    ran, fetched = page.evaluate(
        """async () => {
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.body.append(script);
          return [window.ran ?? false, await fetch("http://elsewhere.invalid/").then(() => true, () => false)];
        }"""
    )
    assert not ran and not fetched
