"""Ollama over HTTP: calls that end when the client leaves or the deadline passes, whatever Ollama does."""

import contextlib
import json
import logging
import re
import select
import socket
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

from service.client import Client
from service.errors import (
    ClientGone,
    EngineFailed,
    EngineUnavailable,
    GenerationTimeout,
    InvalidRequest,
    PromptTooLong,
    ServiceError,
)
from service.record import said
from service.settings import Settings

log = logging.getLogger("sluice")

CONNECT_TIMEOUT = 2.0  # seconds; Ollama is on this host or in this pod
RETRY_AFTER = 5.0  # seconds; about what a restart of Ollama and the load of a small model take
# What of an engine's error may be logged: all else may quote a prompt or an answer.
SAYABLE = re.compile(
    r"(?:runner|llama-server) process (?:has terminated|exited)|exit status \d+|signal: \w+|unexpected EOF"
    r"|more system memory|out of memory|no space left on device|unable to load model|not found|server busy|timed out"
    r"|connection (?:refused|reset)|context canceled|deadline exceeded|parse grammar|parsing tool call|panic"
)
NOBODY = Client(None)
NO_HEADERS: Mapping[str, str] = {}


class _WatchedSocket(socket.socket):
    """A non-blocking socket to Ollama whose waits end when it is ready, the client leaves or the deadline passes."""

    def watch(self, client: Client, deadline: float) -> None:
        self._client, self._deadline, self._poll = client, deadline, select.poll()
        client.watch(self._poll)

    def is_silent(self) -> bool:
        """Say whether there is nothing to read, not even the end of the connection."""
        poll = select.poll()
        poll.register(self, select.POLLIN)
        return not poll.poll(0)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self._await(select.POLLIN)
        return super().recv_into(*args, **kwargs)

    def sendall(self, data: Any, flags: int = 0) -> None:
        rest = memoryview(data)
        while rest:
            self._await(select.POLLOUT)
            rest = rest[self.send(rest, flags) :]

    def _await(self, event: int) -> None:
        self._poll.register(self, event)
        events = self._poll.poll(max(0.0, self._deadline - time.monotonic()) * 1000)
        if self._client.reported(events):
            raise ClientGone
        if not events:
            raise GenerationTimeout("the model did not finish in time", hint="ask for fewer tokens with max_tokens")


class Reply:
    """An answer of Ollama's that is being read; close() cancels the work behind it."""

    def __init__(self, sock: _WatchedSocket, idle: list[_WatchedSocket]) -> None:
        self._sock, self._idle, self._response = sock, idle, HTTPResponse(sock)

    def begin(self, request: bytes) -> None:
        """Send the request and read the answer's head; raises a ServiceError unless it is a 200."""
        try:
            self._sock.sendall(request)
            self._response.begin()
            if self._response.status != 200:
                status, body = self._response.status, self._response.read()
                told = passed_on(status, body, self._response.getheader("Retry-After", ""))
                raise told or engine_error(status, _error_text(body))
        except (HTTPException, OSError) as error:
            raise broke_off(error) from error

    def number(self, header: str) -> float:
        """Return the number in a header of the answer, 0 where there is none."""
        try:
            return float(self._response.headers.get(header, 0))
        except ValueError:
            return 0.0

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the JSON objects of a streamed answer as they come.

        Raises EngineFailed when Ollama breaks off or reports an error, and what a watched read raises.
        """
        rest = b""
        try:
            while data := self._response.read1():
                *lines, rest = (rest + data).split(b"\n")
                for message in map(json.loads, lines):
                    if "error" in message:
                        told = passed_on(500, json.dumps(message).encode())
                        raise told or engine_error(500, str(message["error"]))
                    if not {"message", "done"} <= set(message):
                        raise ValueError("not a piece of an answer")
                    if message.get("done"):
                        self._response.read()  # the end of the body, after which the connection can be used again
                    yield message
        except (HTTPException, OSError, ValueError, TypeError) as error:
            raise broke_off(error) from error

    def json(self) -> dict[str, Any]:
        """Return an answer that is one JSON object; raises as lines() does."""
        try:
            return dict(json.loads(self._response.read()))
        except (HTTPException, OSError, ValueError) as error:
            raise broke_off(error) from error

    def close(self) -> None:
        """Close the connection, so that Ollama stops generating for it; keep one whose answer has been read whole."""
        reusable = self._response.isclosed() and not self._response.will_close
        self._response.close()
        if reusable:
            self._idle.append(self._sock)
        else:
            self._sock.close()


class Ollama:
    """Ollama's API and the model served from it. A call has a connection to itself, so it can be cut alone."""

    CHAT, EMBED = "/api/chat", "/api/embed"

    def __init__(self, settings: Settings, address: str = "") -> None:
        parts = urlsplit(address or settings.ollama_host)
        self._host, self._port = parts.hostname or "", parts.port or 11434
        self._idle: list[_WatchedSocket] = []  # at most as many as there were calls at once
        self.model = settings.model
        # What the model is loaded with: a request with other values would have it loaded again.
        self._options = {"num_ctx": settings.context_length, "num_thread": settings.threads}

    def payload(self, options: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """Return a request body about the model, which stays loaded after it."""
        return {"model": self.model, "keep_alive": -1, "options": {**self._options, **(options or {})}, **fields}

    def request(
        self,
        path: str,
        payload: Any = None,
        *,
        timeout: float,
        client: Client = NOBODY,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Reply:
        """Send `payload` (None: a GET) and return the reply once its status is known to be 200.

        timeout: seconds for the whole exchange. Raises a ServiceError or ClientGone.
        """
        sock = self._idle_connection() or self._connect()
        sock.watch(client, time.monotonic() + timeout)
        reply = Reply(sock, self._idle)
        try:
            reply.begin(self._message(path, payload, headers))
        except (ServiceError, ClientGone):
            reply.close()
            raise
        return reply

    def close(self) -> None:
        """Close the connections that no call uses."""
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _idle_connection(self) -> _WatchedSocket | None:
        """Return a connection that an earlier call left open, unless Ollama has closed all of them since."""
        with contextlib.suppress(IndexError):
            while sock := self._idle.pop():
                if sock.is_silent():
                    return sock
                sock.close()
        return None

    def _connect(self) -> _WatchedSocket:
        try:
            plain = socket.create_connection((self._host, self._port), timeout=CONNECT_TIMEOUT)
        except OSError as error:
            log.warning("Ollama can't be reached: %s", error)
            raise EngineUnavailable("the model server can't be reached", retry_after=RETRY_AFTER) from error
        sock = _WatchedSocket(fileno=plain.detach())
        sock.setblocking(False)
        return sock

    def _message(self, path: str, payload: Any, headers: Mapping[str, str]) -> bytes:
        """Return the request as one piece, which goes out, and arrives, at once."""
        body = b"" if payload is None else json.dumps(payload).encode()
        head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{head}\r\n".encode() + body


def _error_text(body: bytes) -> str:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return str(json.loads(body)["error"])
    return body.decode(errors="replace")


def passed_on(status: int, body: bytes, retry_after: str = "") -> ServiceError | None:
    """Return the error in a body of our own form, which HAProxy or a pod behind it sent; None for any other body."""
    try:
        told = json.loads(body)["error"]
        error = ServiceError(str(told["message"]), hint=told["hint"])
        error.code = str(told["code"])
    except (ValueError, TypeError, KeyError):
        return None
    error.status = next((kind.status for kind in ServiceError.__subclasses__() if kind.code == error.code), status)
    if retry_after.isdigit():
        error.retry_after = float(retry_after)
    return error


def broke_off(error: Exception) -> EngineFailed:
    """Return the error for an exchange with Ollama that ended early, and log what ended it."""
    log.warning("Ollama broke off: %s", said(error))
    return EngineFailed("the model server broke off", hint="the request can be sent again", retry_after=RETRY_AFTER)


def engine_error(status: int, text: str) -> ServiceError:
    """Translate an error of Ollama's; its text reaches the caller only where the caller can act on it."""
    if "exceeds the context length" in text or "input length" in text:
        return PromptTooLong("the prompt has more tokens than the model's context", hint="shorten it")
    if status in (400, 501):  # 501: a model that can't do what was asked, such as embeddings
        return InvalidRequest(text)
    known = ", ".join(dict.fromkeys(SAYABLE.findall(text)))
    log.error("Ollama answered %d: %s", status, known or "nothing that may be logged; its own log says more")
    if status == 404:
        return EngineUnavailable("the model is not in the model server's store", retry_after=RETRY_AFTER)
    if status == 503 or "memory" in text:
        return EngineUnavailable("the model server has no room for this now", retry_after=RETRY_AFTER)
    return EngineFailed("the model server failed", hint="the request can be sent again", retry_after=RETRY_AFTER)


def with_tag(model: str) -> str:
    """Return a model's name with its tag, which is `latest` where none is given."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"
