"""The gateway under gunicorn, as users run it, in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed import ROOT
from testbed.fetching import fetch, message, metric
from testbed.ports import free_ports
from testbed.stand_in import MODEL
from testbed.waiting import eventually


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
        """Return a metric's value; see testbed.fetching.metric()."""
        return metric(f"{self.private}/metrics", name)

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
