"""The gateway under gunicorn: queue, cancellation, drain, private port, log."""

import contextlib
import fcntl
import http.client
import json
import signal
import socket
import struct
import sys
import termios
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from testbed.fetching import fetch
from testbed.gateway import Served
from testbed.ports import free_port
from testbed.stand_in import StandIn
from testbed.waiting import eventually

Make = Callable[..., Served]


def in_background(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function)


def test_a_client_that_leaves_while_the_prompt_is_read_stops_the_model(make_server: Make, stand_in: StandIn) -> None:
    stand_in.hold_at = 0
    served = make_server()
    sock = served.connect("/generate", {"prompt": "x"})
    eventually(lambda: stand_in.running == 1)
    sock.close()
    eventually(lambda: stand_in.cancelled == 1)
    eventually(lambda: served.metric("sluice_requests_in_flight") == 0)
    assert served.metric("sluice_requests_cancelled_total") == 1
    assert eventually(lambda: [line for line in served.lines() if line.get("error") == "client_gone"])


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_mid_answer_stops_the_model(make_server: Make, stand_in: StandIn, stream: bool) -> None:
    stand_in.hold_at = 2
    served = make_server()
    sock = served.connect("/generate", {"prompt": "x", "stream": stream})
    if stream:
        text = b""
        while b"Hello" not in text:
            text += sock.recv(65536)
    eventually(lambda: stand_in.running == 1)
    sock.close()
    eventually(lambda: stand_in.cancelled == 1)
    eventually(lambda: served.metric("sluice_requests_in_flight") == 0)


def test_a_client_that_leaves_the_queue_never_reaches_the_model(make_server: Make, stand_in: StandIn) -> None:
    stand_in.hold_at = 0
    served = make_server(slots=1)
    first = served.connect("/generate", {"prompt": "first"})
    eventually(lambda: stand_in.running == 1)
    second = served.connect("/generate", {"prompt": "second"})
    queued = 'sluice_requests_queued{priority="interactive"}'
    eventually(lambda: served.metric(queued) == 1)
    second.close()
    eventually(lambda: served.metric(queued) == 0)
    stand_in.release()
    assert b"200 OK" in first.recv(65536)
    first.close()
    assert [chat["messages"][0]["content"] for chat in stand_in.chats()] == ["first"]


def test_the_queue_is_bounded_and_refuses_with_retry_after(make_server: Make, stand_in: StandIn) -> None:
    stand_in.hold_at = 0
    served = make_server(slots=1, max_queue=1, queue_timeout=30)
    first = served.connect("/generate", {"prompt": "x"})
    eventually(lambda: stand_in.running == 1)
    second = served.connect("/generate", {"prompt": "x"})
    eventually(lambda: served.metric('sluice_requests_queued{priority="interactive"}') == 1)
    reply = fetch(f"{served.url}/generate", {"prompt": "x"})
    assert (reply.status, reply.json()["error"]["code"], reply.headers["Retry-After"]) == (503, "saturated", "30")
    assert served.metric('sluice_requests_refused_total{reason="queue_full"}') == 1
    stand_in.release()
    for sock in (first, second):
        assert b"200 OK" in sock.recv(65536)
        sock.close()


def test_a_wait_that_gets_too_long_ends_in_a_503(make_server: Make, stand_in: StandIn) -> None:
    stand_in.hold_at = 0
    served = make_server(slots=1, queue_timeout=0.5)
    first = served.connect("/generate", {"prompt": "x"})
    eventually(lambda: stand_in.running == 1)
    reply = fetch(f"{served.url}/generate", {"prompt": "x"})
    assert (reply.status, reply.json()["error"]["message"]) == (503, "no slot became free in time")
    first.close()


def test_never_more_than_the_slots_reach_ollama(make_server: Make, stand_in: StandIn) -> None:
    stand_in.token_delay = 0.002
    served = make_server(slots=3)
    peak: list[int] = []
    with ThreadPoolExecutor(20) as pool:
        replies = [pool.submit(fetch, f"{served.url}/generate", {"prompt": "x"}) for _ in range(60)]
        while not all(reply.done() for reply in replies):
            peak.append(stand_in.running)
    assert {reply.result().status for reply in replies} == {200}
    assert max(peak) == 3


def test_sigterm_drains_ready_no_more_but_accepting_then_finishing(make_server: Make, stand_in: StandIn) -> None:
    stand_in.hold_at = 1
    served = make_server(prestop=1.5)
    stream = served.connect("/generate", {"prompt": "long", "stream": True})
    eventually(lambda: stand_in.running == 1)
    served.process.send_signal(signal.SIGTERM)
    eventually(lambda: not served.ready())
    late = served.connect("/generate", {"prompt": "late"})  # within PRESTOP, so it is still served
    eventually(lambda: stand_in.running == 2)
    eventually(lambda: refuses_connections(served.port))
    assert fetch(f"{served.private}/healthz").status == 200
    stand_in.release()
    text = b""
    while part := stream.recv(65536):
        text += part
    assert b'"done": true' in text
    assert b"200 OK" in late.recv(65536)
    late.close()
    stream.close()
    assert served.process.wait(30) == 0


def test_sigquit_ends_at_once_and_stops_the_model(make_server: Make, stand_in: StandIn) -> None:
    stand_in.hold_at = 0
    served = make_server()
    served.connect("/generate", {"prompt": "x"})
    eventually(lambda: stand_in.running == 1)
    served.process.send_signal(signal.SIGQUIT)
    assert served.process.wait(10) == 0
    eventually(lambda: stand_in.cancelled == 1)


def refuses_connections(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


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


def test_the_metrics_tell_what_happened(make_server: Make, stand_in: StandIn) -> None:
    served = make_server()
    fetch(f"{served.url}/generate", {"prompt": "x"})
    fetch(f"{served.url}/nowhere")
    for name, value in {
        "sluice_slots": 4,
        "sluice_model_loaded": 1,
        "sluice_requests_in_flight": 0,
        "sluice_requests_admitted_total": 1,
        "sluice_requests_cancelled_total": 0,
        "sluice_prompt_tokens_total": 7,
        "sluice_completion_tokens_total": 3,
        "sluice_time_to_first_token_seconds_count": 1,
        "sluice_inter_token_latency_seconds_count": 3,
        "sluice_queue_wait_seconds_count": 1,
        'sluice_responses_total{route="/generate",status="200"}': 1,
        'sluice_responses_total{route="none",status="404"}': 1,
    }.items():
        assert served.metric(name) == value, name


def test_the_log_has_one_line_a_request_without_prompt_answer_or_key(make_server: Make) -> None:
    served = make_server()
    fetch(f"{served.url}/generate", {"prompt": "a secret question"}, {"Authorization": "Bearer a-secret-key"})
    fetch(f"{served.url}/generate", {"prompt": 5})
    good, bad = eventually(
        lambda: (
            [line for line in served.lines() if line["message"] == "request"][1:]
            and [line for line in served.lines() if line["message"] == "request"]
        )
    )
    assert (good["status"], good["prompt_tokens"], good["completion_tokens"], good["finish_reason"]) == (
        200,
        7,
        3,
        "stop",
    )
    assert (bad["status"], bad["error"]) == (400, "invalid_request")
    assert {"time", "level", "request_id", "method", "path", "queued_ms", "first_token_ms", "total_ms"} <= set(good)
    text = served.log.read_text()
    assert not any(secret in text for secret in ("secret question", "a-secret-key", "Hello"))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"POST /generate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
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


def test_a_chunked_body_over_the_limit_is_refused(make_server: Make) -> None:
    served = make_server(max_body_bytes=2048)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    connection.request("POST", "/generate", iter([b"x" * 1024] * 4), encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 413
    assert json.loads(response.read())["error"]["code"] == "body_too_large"
    connection.close()


def test_a_bad_setting_ends_the_start_with_one_line(make_server: Make) -> None:
    with pytest.raises(AssertionError) as error:
        make_server(slots="lots")
    assert "sluice: SLOTS='lots' is not a whole number" in str(error.value)
    assert "Traceback" not in str(error.value)
    with pytest.raises(AssertionError, match="sluice: API_KEYS_FILE=/nowhere can't be read"):
        make_server(api_keys_file="/nowhere")


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


def test_many_clients_that_leave_at_once_free_every_slot(make_server: Make, stand_in: StandIn) -> None:
    stand_in.hold_at = 0
    served = make_server(slots=4, max_queue=32)
    socks = [served.connect("/generate", {"prompt": "x"}) for _ in range(36)]
    eventually(lambda: served.metric('sluice_requests_queued{priority="interactive"}') == 32)
    for sock in socks:
        sock.close()
    eventually(lambda: served.metric("sluice_requests_in_flight") == 0)
    eventually(lambda: stand_in.running == 0)
    stand_in.release()
    assert fetch(f"{served.url}/generate", {"prompt": "x"}).status == 200


def test_a_private_port_that_is_taken_ends_the_start(make_server: Make) -> None:
    with (
        socket.create_server(("127.0.0.1", port := free_port())),
        pytest.raises(AssertionError, match="Address already in use"),
    ):
        make_server(private_port=port)
