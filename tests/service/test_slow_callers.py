"""Callers who send or read slowly, or not at all: none holds a slot or a thread."""

import contextlib
import fcntl
import http.client
import json
import signal
import socket
import sys
import termios
import time
from collections.abc import Callable

import pytest

from testbed.fetching import fetch
from testbed.gateway import Served
from testbed.stand_in import StandIn
from testbed.waiting import eventually

Make = Callable[..., Served]


def test_connections_that_send_nothing_do_not_stop_others(make_server: Make) -> None:
    served = make_server(slots=1, max_queue=1)  # 8 threads
    idle = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(20)]
    assert fetch(f"{served.url}/generate", {"prompt": "x"}).status == 200
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 0  # nor do they hold up the stop, as they could for KEEPALIVE seconds
    for sock in idle:
        sock.close()


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nHos", b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"]
)
def test_a_request_that_does_not_come_whole_in_time_is_told_so(make_server: Make, sent: bytes) -> None:
    served = make_server(head_timeout=0.5, body_timeout=0.5)
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as sock:
        sock.sendall(sent)
        response = http.client.HTTPResponse(sock)
        response.begin()
        assert (response.status, json.loads(response.read())["error"]["code"]) == (408, "request_timeout")
        assert sock.recv(1) == b""
    assert "Traceback" not in served.log.read_text()


def test_a_byte_now_and_then_does_not_make_a_request_last_longer(make_server: Make) -> None:
    served = make_server(body_timeout=1.5)
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", served.port), timeout=0.2) as sock:
        sock.sendall(b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n")
        answer = b""
        while not answer:
            sock.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                answer = sock.recv(4096)
            assert time.monotonic() - started < 60
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_slow_heads_and_bodies_and_silent_connections_hold_no_thread(make_server: Make) -> None:
    served = make_server(slots=1, max_queue=1)  # 8 threads
    head = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n"
    for sent in (b"", head[:20], head, head + b"x" * 40_000):
        for _ in range(20):
            served.open(sent)
    assert fetch(f"{served.url}/generate", {"prompt": "x"}).status == 200
    served.process.send_signal(signal.SIGTERM)
    for sock in served.sockets:
        sock.close()
    assert served.process.wait(30) == 0


@pytest.mark.parametrize(
    "sent", [b"", b"POST /gen", b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"]
)
def test_the_connection_that_stands_still_for_longest_goes_when_there_are_too_many(
    make_server: Make, sent: bytes
) -> None:
    served = make_server(max_connections=16)
    for _ in range(40):
        served.open(sent)
    for _ in range(20):
        assert fetch(f"{served.url}/generate", {"prompt": "x"}).status == 200
    assert served.metric('sluice_connections_cut_total{reason="connections"}') >= 24
    assert served.sockets[0].recv(1) == b""


def test_uploads_that_fill_the_memory_are_refused_greediest_first(make_server: Make) -> None:
    served = make_server(receive_mib=1)
    head = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n"
    slow = served.open(head + b"x" * 700_000)
    eventually(lambda: unread(slow) == 0)
    body = json.dumps({"prompt": "x"}).encode().ljust(500_000)
    assert fetch(f"{served.url}/generate", body).status == 200
    answer = slow.recv(4096)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1\r\n" in answer


def unread(sock: socket.socket) -> int:
    """Return the bytes that the other side hasn't acknowledged yet."""
    return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


@pytest.mark.parametrize("stream", [True, False])
def test_a_slow_reader_holds_neither_slot_nor_thread(make_server: Make, stand_in: StandIn, stream: bool) -> None:
    stand_in.tokens = ["x" * 10_000] * 400
    served = make_server(slots=1, max_queue=1, write_timeout=2)
    readers = [served.slow_reader({"prompt": "x", "stream": stream}) for _ in range(2)]
    eventually(lambda: served.metric("sluice_completion_tokens_total") == 800, 60)  # both are complete, and unread
    eventually(lambda: served.metric("sluice_requests_in_flight") == 0)
    assert readers[0].recv(15) == b"HTTP/1.1 200 OK"
    assert fetch(f"{served.url}/generate", {"prompt": "x"}).status == 200
    # Whoever takes longer than WRITE_TIMEOUT for the whole is cut off.
    eventually(lambda: served.metric('sluice_connections_cut_total{reason="write_timeout"}') == 2, 60)


def test_an_answer_that_is_read_slowly_arrives_whole(make_server: Make, stand_in: StandIn) -> None:
    stand_in.tokens = ["x" * 10_000] * 400
    served = make_server()
    sock = served.slow_reader({"prompt": "x"})
    eventually(lambda: served.metric("sluice_completion_tokens_total") == 400, 60)
    response = http.client.HTTPResponse(sock)
    response.begin()
    assert len(json.loads(response.read())["response"]) == 4_000_000


def test_a_client_that_does_not_read_its_stream_loses_its_slot(make_server: Make, stand_in: StandIn) -> None:
    stand_in.tokens = ["x" * 10_000] * 5000
    served = make_server(send_mib=1, max_tokens=5000, context_length=8192)
    served.connect("/generate", {"prompt": "x", "stream": True})
    eventually(lambda: served.metric("sluice_requests_cancelled_total") == 1)
    assert served.metric("sluice_requests_in_flight") == 0
