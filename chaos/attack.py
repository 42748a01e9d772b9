"""`python -m chaos attack uploads|heads|readers|idle --url URL`: slow callers, thousands from one process.

Only for servers of one's own. It ends by itself after --seconds, and prints a JSON line a second: how many connections
are open, and how many the server has closed since the start, which are opened again.
"""

import argparse
import heapq
import json
import random
import select
import socket
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from command_line import number, one_of, whole

KINDS = ("uploads", "heads", "readers", "idle")
PAUSES = (5.0, 15.0)  # seconds between two bytes of a connection
OPENED_PER_SECOND = 500  # at the start
REOPENED_PER_SECOND = 50
CHUNK = 40_000  # bytes of body at once: more than a proxy's buffer
SMALL_WINDOW = 4096  # bytes of SO_RCVBUF
TAKEN = 16  # bytes a slow reader takes at a time
GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
HEAD = "{method} {path} HTTP/1.1\r\nHost: {host}\r\n"


def first_bytes(kind: str, host: str, number: int) -> bytes:
    """Return what a connection sends at once."""
    if kind == "idle" and number % 2:
        return b""
    if kind == "idle":
        return (HEAD.format(method="GET", path="/", host=host) + "\r\n").encode()
    head = HEAD.format(method="POST", path="/generate", host=host)
    if kind == "heads":
        return f"{head}X-Slow: ".encode()
    if kind == "uploads":
        head += f"Content-Type: application/json\r\nContent-Length: {10 * CHUNK}\r\n\r\n"
        return head.encode() + b'{"prompt": "'.ljust(1 if number % 4 else CHUNK, b"x")
    # One in ten answers is larger than what the kernel buffers for a connection.
    size = "[pieces 64] [size 65536]" if number % 10 == 0 else "[pieces 10] [size 6000]"
    body = json.dumps({"prompt": f"Reader {number}: [seconds 0.01] {size}", "stream": True}).encode()
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class Attack:
    """The connections, which are opened at a bounded rate and move a byte now and then."""

    kind: str
    address: tuple[str, int]
    count: int
    sources: list[str]
    opened: int = 0
    turned_away: int = 0
    statuses: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._epoll = select.epoll()
        self._open: dict[int, socket.socket] = {}
        self._due: list[tuple[float, int, socket.socket]] = []
        self._random = random.Random(1)  # noqa: S311
        self._credit = 0.0

    def run(self, seconds: float) -> None:
        """Attack for so long, then leave."""
        started = looked = time.monotonic()
        said = 0.0
        while (now := time.monotonic()) < started + seconds:
            self._open_some(now - looked)
            looked = now
            self._move(now)
            for descriptor, event in self._epoll.poll(0.05):
                self._look(descriptor, event)
            if now - said >= 1:
                said = now
                print(json.dumps(self.figures()), flush=True)
            time.sleep(0.02)  # so that many events cost one turn
        for sock in self._open.values():
            sock.close()

    def figures(self) -> dict[str, Any]:
        """Return what there is to say."""
        counts = {"open": len(self._open), "opened": self.opened, "turned_away": self.turned_away}
        return {**counts, "statuses": dict(self.statuses)}

    def _open_some(self, passed: float) -> None:
        rate = OPENED_PER_SECOND if self.opened < self.count else REOPENED_PER_SECOND
        self._credit = min(rate, self._credit + rate * passed)
        while self._credit >= 1 and len(self._open) < self.count:
            self._credit -= 1
            self._connect()

    def _connect(self) -> None:
        sock = socket.socket()
        if self.kind == "readers":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW)
        if self.sources:
            sock.bind((self.sources[self.opened % len(self.sources)], 0))
        sock.settimeout(0.2)  # a full backlog must not stop the others
        try:
            sock.connect(self.address)
            sock.settimeout(0)
            sock.send(first_bytes(self.kind, self.address[0], self.opened))
        except OSError:
            sock.close()
            return
        finally:
            self.opened += 1
        self._open[sock.fileno()] = sock
        self._epoll.register(sock, GONE | (0 if self.kind == "readers" else select.EPOLLIN))
        heapq.heappush(self._due, (time.monotonic() + self._random.uniform(*PAUSES), self.opened, sock))

    def _move(self, now: float) -> None:
        """Move a byte on each connection whose time has come."""
        while self._due and self._due[0][0] <= now:
            _, number, sock = heapq.heappop(self._due)
            if sock.fileno() < 0 or self.kind == "idle":
                continue
            with suppress(BlockingIOError, ConnectionError):
                if self.kind == "readers":
                    sock.recv(TAKEN)
                else:
                    sock.send(b"x")
            heapq.heappush(self._due, (now + self._random.uniform(*PAUSES), number, sock))

    def _look(self, descriptor: int, event: int) -> None:
        """Read what came, and close what the server has closed."""
        sock, data = self._open[descriptor], b""
        with suppress(BlockingIOError, ConnectionError):
            if event & select.EPOLLIN:
                data = sock.recv(65536)
        if data.startswith(b"HTTP/1."):
            self.statuses[data[9:12].decode()] += 1
        if not data or event & GONE:
            self.turned_away += 1
            self._epoll.unregister(descriptor)
            del self._open[descriptor]
            sock.close()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("kind", type=one_of(KINDS), help=f"one of {', '.join(KINDS)}")
    add("--url", required=True, help="a server of one's own")
    add("--count", type=whole(1), default=2000, help="connections (default %(default)s)")
    add("--seconds", type=number(above=True, of="seconds"), default=60, help="how long (default %(default)s)")
    add("--sources", type=addresses, default=[], help="addresses of this machine to come from, with commas")


def addresses(text: str) -> list[str]:
    """Read a list with commas, which may be empty."""
    return [each for each in text.split(",") if each]


def run(options: argparse.Namespace) -> int:
    """Attack, and return 0."""
    parts = urlsplit(options.url)
    address = (parts.hostname or "", parts.port or 80)
    Attack(options.kind, address, options.count, options.sources).run(options.seconds)
    return 0
