"""A plain HTTP client."""

import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

LABEL = re.compile(r'\w+="(?:[^"\\]|\\.)*"')


@dataclass
class Reply:
    """A whole HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body's JSON."""
        return json.loads(self.body)


def fetch(url: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 60) -> Reply:
    """Send a GET, or a POST of `body` (JSON, or bytes as they are), and return the whole answer."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return Reply(response.status, dict(response.headers), response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, dict(error.headers), error.read())


def status(url: str) -> int:
    """Return the status of a GET, 0 without an answer."""
    try:
        return fetch(url).status
    except OSError:
        return 0


def metric(url: str, name: str) -> float:
    """Return the value that a metric has on a page, summed over the labels that `name` doesn't have.

    name: with labels as they are written there, such as `sluice_requests_queued{priority="batch"}`.
    """
    wanted, labels = _series(name)
    values = []
    for line in fetch(url).body.decode().splitlines():
        series, _, value = line.rpartition(" ")
        found, told = _series(series)
        if found == wanted and labels <= told:
            values.append(float(value))
    if not values:
        raise LookupError(f"{url} has no {name}")
    return sum(values)


def _series(text: str) -> tuple[str, set[str]]:
    """Return a metric's name and its labels."""
    name, _, labels = text.partition("{")
    return name, set(LABEL.findall(labels))


def message(path: str, body: Any) -> bytes:
    """Return a POST of `body` (JSON) as it goes over the wire."""
    data = json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
