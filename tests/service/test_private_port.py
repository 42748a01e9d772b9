"""The private port: probes and metrics, whatever is sent to it."""

import contextlib
import json
import socket
from collections.abc import Callable

import psutil
import pytest

from testbed.fetching import fetch
from testbed.gateway import Served
from testbed.ports import free_port
from testbed.waiting import eventually

Make = Callable[..., Served]


def test_the_private_port_answers_probes_and_metrics_only(shared: Served) -> None:
    assert fetch(f"{shared.private}/healthz").json() == {"status": "ok"}
    assert fetch(f"{shared.private}/readyz").json() == {"status": "ready"}
    metrics = fetch(f"{shared.private}/metrics")
    assert metrics.headers["Content-Type"].startswith("text/plain")
    for path in ("/", "/generate", "/v1/models"):
        reply = fetch(f"{shared.private}{path}")
        assert (reply.status, reply.json()["error"]["code"]) == (404, "not_found")
    reply = fetch(f"{shared.private}/metrics", {})
    assert (reply.status, reply.json()["error"]["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\r\n", b'GET /"<%s HTTP/9\r\n\r\n', b"GET /" + b"a" * 70_000])
def test_the_private_port_says_in_json_that_it_can_not_read_a_request(shared: Served, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", shared.private_port), timeout=10) as sock:
        sock.sendall(sent)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))  # to HTTP/0.9, or to what may be, without a head
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["error"]["code"] == "bad_request"


def test_a_head_without_end_is_answered_on_the_private_port_after_a_few_kilobytes(shared: Served) -> None:
    for head in (
        b"GET /" + b"x" * 9_000,
        b"GET /healthz HTTP/1.1\r\n" + b"X-A: b\r\n" * 90 + b"X-Long: " + b"x" * 9_000,
    ):
        with socket.create_connection(("127.0.0.1", shared.private_port), timeout=5) as sock:
            sock.sendall(head)
            assert b'"bad_request"' in b"".join(iter(lambda: sock.recv(1024), b""))


def test_silent_connections_leave_the_private_port_to_probes(shared: Served) -> None:
    worker = psutil.Process(shared.process.pid).children()[0]
    threads = worker.num_threads()
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection(("127.0.0.1", shared.private_port)))
        assert fetch(f"{shared.private}/healthz").status == 200
        eventually(lambda: worker.num_threads() <= threads + 64)
    eventually(lambda: worker.num_threads() <= threads + 4)
    assert "Traceback" not in shared.log.read_text()


def test_a_private_port_that_is_taken_ends_the_start(make_server: Make) -> None:
    with (
        socket.create_server(("127.0.0.1", port := free_port())),
        pytest.raises(AssertionError, match="Address already in use"),
    ):
        make_server(private_port=port)
