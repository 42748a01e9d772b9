"""The few calls that the launcher makes to Ollama, with errors for a person instead of for an API's client."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class OllamaError(Exception):
    """Ollama answered with an error, or not at all (status 0); the message is its own text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


def answers(url: str, *, timeout: float = 2.0) -> bool:
    """Say whether an Ollama answers at `url`."""
    return bool(version(url, timeout=timeout))


def version(url: str, *, timeout: float = 2.0) -> str:
    """Return the version of the Ollama at `url`; "" where none answers."""
    try:
        return str(call(url, "/api/version", timeout=timeout).get("version", ""))
    except OllamaError:
        return ""


def call(url: str, path: str, payload: Mapping[str, Any] | None = None, *, timeout: float) -> dict[str, Any]:
    """Return the last JSON object of an answer; a payload makes it a POST. Raises OllamaError."""
    last: dict[str, Any] = {}
    for last in events(url, path, payload, timeout=timeout):  # noqa: B007
        pass
    return last


def events(
    url: str, path: str, payload: Mapping[str, Any] | None = None, *, timeout: float, patience: float | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of an answer as they come.

    timeout: seconds without a byte; after the second object `patience` takes its place, where it is given.
    Raises OllamaError, also for an error that comes in the middle.
    """
    with contextlib.closing(_connection(url, timeout)) as connection:
        try:
            body = None if payload is None else json.dumps(payload)
            connection.request("GET" if body is None else "POST", path, body, {"Content-Type": "application/json"})
            sock = connection.sock
            with connection.getresponse() as response:
                for count, line in enumerate(iter(response.readline, b"")):
                    if count == 1 and patience is not None:
                        sock.settimeout(patience)
                    yield _event(response, line)
                if response.status >= 400:
                    raise OllamaError(response.status, f"status {response.status}")
        except (HTTPException, OSError, ValueError, TypeError) as error:
            raise OllamaError(0, str(error) or type(error).__name__) from error


def has_model(url: str, name: str, *, timeout: float) -> bool:
    """Say whether a model is in Ollama's store. Raises OllamaError."""
    try:
        call(url, "/api/show", {"model": name}, timeout=timeout)
    except OllamaError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return False
        raise
    return True


def store(url: str, file: Path, *, timeout: float) -> str:
    """Have Ollama hold a file, and return its digest there. Raises OllamaError, or OSError when it can't be read."""
    with contextlib.closing(_connection(url, timeout)) as connection, file.open("rb") as content:
        digest = f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"
        content.seek(0)
        path = f"/api/blobs/{digest}"
        try:
            connection.request("HEAD", path)  # Ollama closes the connection on who sends what it has
            response = connection.getresponse()
            text = response.read()
            if response.status != HTTPStatus.OK:
                connection.request("POST", path, content, {"Content-Length": str(file.stat().st_size)})
                response = connection.getresponse()
                text = response.read()
        except (HTTPException, OSError) as error:
            raise OllamaError(0, str(error)) from error
    if response.status >= HTTPStatus.BAD_REQUEST:
        raise OllamaError(response.status, text.decode(errors="replace"))
    return digest


def _connection(url: str, timeout: float) -> HTTPConnection:
    parts = urlsplit(url)
    return HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 11434, timeout=timeout)


def _event(response: HTTPResponse, line: bytes) -> dict[str, Any]:
    event = dict(json.loads(line))
    if "error" in event:
        raise OllamaError(response.status if response.status >= 400 else 500, str(event["error"]))
    return event
