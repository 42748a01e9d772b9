"""The gateway under gunicorn, as users run it, in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.stand_in import MODEL, eventually

ROOT = Path(__file__).parent.parent
RESERVED = 64  # ports that are kept from others: far more than a test starts servers


def free_port() -> int:
    """Return a port that nothing listens on at the moment."""
    [port] = free_ports(1)
    return port


_reserved: deque[socket.socket] = deque()


def free_ports(count: int) -> list[int]:
    """Return as many ports for servers that nobody else gets: nothing listens on them, and for a while nothing can.

    Each stays bound by a socket that doesn't listen. Next to that one only those may bind that set SO_REUSEADDR, as
    servers do; the kernel gives it neither to a client nor to another call of this, in this process or the next one.
    """
    socks = [_reserve() for _ in range(count)]
    while len(_reserved) > RESERVED:
        _reserved.popleft().close()
    return [int(sock.getsockname()[1]) for sock in socks]


def _reserve() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # only now: or the kernel would give us a reserved one
    _reserved.append(sock)
    return sock


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


def message(path: str, body: Any) -> bytes:
    """Return a POST of `body` (JSON) as it goes over the wire."""
    data = json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


@dataclass
class Served:
    """A running gateway."""

    process: subprocess.Popen[bytes]
    port: int
    private_port: int
    log: Path
    sockets: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Return the public address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def private(self) -> str:
        """Return the private address."""
        return f"http://127.0.0.1:{self.private_port}"

    def ready(self) -> bool:
        """Say whether /readyz answers 200."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            return fetch(f"{self.private}/readyz", timeout=5).status == 200
        except OSError:
            return False

    def metric(self, name: str) -> float:
        """Return a metric's value, by its name with its labels as /metrics writes them."""
        lines = fetch(f"{self.private}/metrics").body.decode().splitlines()
        return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")))

    def lines(self) -> list[dict[str, Any]]:
        """Return the log so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def connect(self, path: str, body: Any) -> socket.socket:
        """Send a request and return its socket without reading the answer; the block's end closes it."""
        return self.open(message(path, body))

    def open(self, data: bytes) -> socket.socket:
        """Send bytes on a connection of their own and return its socket; the block's end closes it."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        self.sockets.append(sock)
        sock.sendall(data)
        return sock

    def slow_reader(self, body: Any) -> socket.socket:
        """Ask /generate on a connection that takes as little as it can at a time."""
        sock = socket.socket()
        self.sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.settimeout(30)
        sock.connect(("127.0.0.1", self.port))
        sock.sendall(message("/generate", body))
        return sock


@contextmanager
def serve(ollama: str, log: Path, **settings: Any) -> Iterator[Served]:
    """Run the gateway in front of `ollama` until the block ends; wait until it is ready."""
    ports: dict[str, int] = dict(zip(("port", "private_port"), free_ports(2), strict=True))
    ports |= {name: settings[name] for name in ports if name in settings}
    values = {"model": MODEL, "ollama_host": ollama, **settings, **ports}
    environ = os.environ | {name.upper(): str(value) for name, value in values.items()}
    command = [sys.executable, "-m", "gunicorn", "-c", "service/gunicorn.conf.py", "service.wsgi:app"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=out, stderr=subprocess.STDOUT)
    served = Served(process, ports["port"], ports["private_port"], log)
    try:
        eventually(served.ready, 60)
        yield served
    finally:
        for sock in served.sockets:
            sock.close()
        if process.poll() is None:
            process.send_signal(signal.SIGQUIT)
        process.wait(30)
