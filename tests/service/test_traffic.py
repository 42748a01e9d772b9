"""A worker's connections without a worker: whole requests in, who is answered when, and who is refused."""

import json
import selectors
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from gunicorn.config import Config

from service import traffic as module
from service.connections import Connection, Phase
from service.lane import LARGE, PLACES_EACH
from service.metrics import Metrics
from service.settings import Settings
from service.traffic import AHEAD, Traffic


@dataclass
class Loop:
    """A Traffic, the loop that drives it, and what it has begun to answer."""

    settings: Settings
    begun: list[Connection] = field(default_factory=list)
    clients: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.poller = selectors.DefaultSelector()
        self.metrics = Metrics()
        self.traffic = Traffic(
            Config(),
            self.settings,
            self.metrics,
            self.poller,
            defer=lambda call, *args: call(*args),
            answer=self.begun.append,
            refuse=self._refuse,
        )

    def _refuse(self, _head: Any, outbox: Any, error: Any) -> None:
        outbox.sendall(f"{error.status} {error.headers.get('Retry-After')}".encode())

    def run(self) -> None:
        while events := self.poller.select(0):
            for key, _mask in events:
                key.data(key.fileobj)

    def send(self, body: bytes, after: bytes = b"", address: str = "127.0.0.1") -> socket.socket:
        """Send a whole request on a connection of its own."""
        ours, theirs = socket.socketpair()
        self.clients.append(ours)
        self.traffic.begin(theirs, (address, 1), None)
        ours.settimeout(0)
        data = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body + after
        while data:
            with suppress(BlockingIOError):
                data = data[ours.send(data) :]
            self.run()
        return ours

    def answered(self, index: int) -> None:
        """End the answer to the request that was begun as this one."""
        self.traffic.answered(self.begun[index], keep=False)
        self.run()

    def cut(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("sluice_connections_cut_total", {"reason": reason}) or 0


Make = Callable[..., Loop]


@pytest.fixture
def make() -> Iterator[Make]:
    loops = []

    def one(**settings: Any) -> Loop:
        loops.append(Loop(Settings(**settings)))
        return loops[-1]

    yield one
    for loop in loops:
        for client in loop.clients:
            client.close()
        loop.run()
        for connection in [*loop.begun, *loop.traffic._connections.of(*Phase)]:
            connection.sock.release()
        loop.poller.close()


SMALL = b'{"prompt": "x"}'
BIG = json.dumps({"prompt": "x" * LARGE}).encode()
PICTURE = b'{"prompt": "x", "images": []}'


@pytest.mark.parametrize("costly", [BIG, PICTURE, rb'{"prompt": "x", "\u0069mages": []}'], ids=["big", "a", "escaped"])
def test_costly_requests_are_checked_one_at_a_time_and_others_pass_them(make: Make, costly: bytes) -> None:
    loop = make()
    for body in (costly, costly, SMALL, costly):
        loop.send(body)
    assert [each.request.body.getvalue() for each in loop.begun] == [costly, SMALL]
    loop.begun[0].sock.settled()  # it is checked, and generates
    assert len(loop.begun) == 3
    loop.answered(0)
    assert len(loop.begun) == 3
    loop.answered(2)
    assert len(loop.begun) == 4


def test_the_lane_is_bounded_and_small_requests_are_answered_beside_it(make: Make) -> None:
    loop = make()
    for _ in range(PLACES_EACH + 1):
        loop.send(BIG)
    refused = loop.send(BIG)
    assert refused.recv(100) == b"503 1"
    loop.send(SMALL)
    loop.send(BIG, address="127.0.0.2")
    assert (len(loop.begun), loop.cut("lane")) == (2, 1)
    for index in (0, *range(2, PLACES_EACH + 3)):
        loop.answered(index)
    assert loop.begun[-1].client[0] == "127.0.0.2"


def test_who_leaves_while_waiting_is_not_checked(make: Make) -> None:
    loop = make()
    loop.send(BIG)
    loop.send(BIG).close()
    last = loop.send(BIG)
    loop.answered(0)
    assert len(loop.begun) == 2
    loop.answered(1)
    assert len(loop.begun) == 2
    assert last.recv(1) == b""
    assert loop.traffic.count == 2  # the first two closed by us, which the clients haven't noticed


def test_nobody_waits_long_and_the_lane_goes_on(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.0)
    loop = make()
    loop.send(BIG)
    late = loop.send(BIG)
    loop.traffic.expire()
    assert late.recv(100) == b"503 1"
    loop.answered(0)
    loop.send(BIG)
    assert len(loop.begun) == 2


def test_those_who_wait_go_before_there_are_too_many_connections(make: Make) -> None:
    loop = make(max_connections=16)
    waiting = [loop.send(BIG) for _ in range(16)]
    loop.send(SMALL)
    assert len(loop.begun) == 2
    assert waiting[1].recv(1) == b""
    assert loop.cut("connections") == 1


def test_whole_requests_are_held_to_the_memory_too(make: Make) -> None:
    loop = make(receive_mib=1, max_body_bytes=1 << 20)
    body = json.dumps({"prompt": "x" * 600_000}).encode()
    loop.send(body)
    assert loop.send(body).recv(100) == b"503 1"
    loop.send(SMALL)
    assert (len(loop.begun), loop.cut("memory")) == (2, 1)
    loop.begun[0].sock.settled()
    loop.send(body)
    assert len(loop.begun) == 3


def test_what_follows_a_whole_request_is_little_or_the_connection_ends_with_it(make: Make) -> None:
    loop = make()
    loop.send(SMALL, after=b"x" * AHEAD)
    loop.send(SMALL, after=b"x" * (AHEAD + 1))
    few, many = loop.begun
    assert (few.held, few.request.should_close()) == (len(SMALL) + AHEAD, False)
    assert (many.held, many.request.should_close()) == (len(SMALL), True)
