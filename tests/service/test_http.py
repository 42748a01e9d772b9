"""What gunicorn's worker makes of HTTP: bad heads, large bodies, paths, pipelines, Expect."""

import http.client
import json
import socket
import struct
from collections.abc import Callable

import psutil
import pytest

from testbed.fetching import fetch
from testbed.gateway import Served
from testbed.stand_in import StandIn
from testbed.waiting import eventually

Make = Callable[..., Served]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"POST /generate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (
            b"POST /generate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n",
            400,
        ),
    ],
)
def test_what_is_not_http_is_a_json_error_too(shared: Served, sent: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", shared.port), timeout=30) as sock:
        sock.sendall(sent)
        response = http.client.HTTPResponse(sock)
        response.begin()
        body = json.loads(response.read())
        assert response.status == status
        assert set(body["error"]) == {"code", "message", "hint"}
        assert response.headers["X-Request-Id"]


def test_what_large_requests_took_is_given_back_whichever_threads_answered_them(
    make_server: Make, stand_in: StandIn
) -> None:
    """glibc has an arena for each of many threads, and would keep it."""
    stand_in.hold_at = 0
    served = make_server()
    worker = psutil.Process(served.process.pid).children()[0]
    for _ in range(40):
        served.connect("/generate", {"prompt": "x"})
    eventually(lambda: worker.num_threads() >= 40)
    stand_in.release()
    before = worker.memory_info().rss
    large = json.dumps({"prompt": "x" * 7_900_000 + "\U0001f600"}, ensure_ascii=False).encode()
    assert [fetch(f"{served.url}/generate", large).status for _ in range(10)] == [413] * 10
    assert worker.memory_info().rss - before < 64 * 2**20


def test_a_chunked_body_over_the_limit_is_refused(make_server: Make) -> None:
    served = make_server(max_body_bytes=2048)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    connection.request("POST", "/generate", iter([b"x" * 1024] * 4), encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 413
    assert json.loads(response.read())["error"]["code"] == "body_too_large"
    connection.close()


def test_clients_that_reset_at_odd_moments_end_nothing(shared: Served) -> None:
    worker = psutil.Process(shared.process.pid).children()[0].pid
    first = b"HEAD /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    then = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n"
    for _ in range(50):
        sock = shared.open(first + then)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # its close is a reset
        sock.recv(1)
        sock.close()
    assert fetch(f"{shared.url}/generate", {"prompt": "x"}).status == 200
    assert psutil.Process(shared.process.pid).children()[0].pid == worker


@pytest.mark.parametrize("path", ["/%67enerate", "//generate", "/v1/chat%2fcompletions", "/./generate"])
def test_only_a_plainly_written_path_gets_in(shared: Served, engine: StandIn, path: str) -> None:
    before = len(engine.chats())
    sock = shared.connect(path, {"prompt": "x"})
    assert sock.recv(65536).startswith(b"HTTP/1.1 400 ")
    assert len(engine.chats()) == before


def test_a_body_over_the_limit_is_refused_so_that_every_client_reads_it(shared: Served) -> None:
    reply = fetch(f"{shared.url}/generate", b"x" * 9_000_000)  # urllib writes all of it before it reads
    assert (reply.status, reply.json()["error"]["code"]) == (413, "body_too_large")
    assert "8388608 bytes" in reply.json()["error"]["message"]


def test_requests_may_follow_each_other_without_waiting(shared: Served) -> None:
    one = b'POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n{"prompt": "x"}'
    with shared.open(one * 3 + b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") as sock:
        text = b""
        while part := sock.recv(65536):
            text += part
    assert (text.count(b"HTTP/1.1 200 OK"), text.count(b"HTTP/1.1 404 ")) == (3, 1)


def test_a_client_that_expects_a_100_gets_one_before_it_sends(shared: Served) -> None:
    head = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: "
    sock = shared.open(head + b"15\r\n\r\n")
    assert sock.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
    sock.sendall(b'{"prompt": "x"}')
    assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert shared.open(head + b"9000000\r\n\r\n").recv(4096).startswith(b"HTTP/1.1 413 ")
