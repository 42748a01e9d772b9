"""The gateway under gunicorn: queue, cancellation, drain, log."""

import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from typing import Any

import pytest

from testbed.fetching import fetch
from testbed.gateway import Served
from testbed.stand_in import MODEL, StandIn
from testbed.waiting import eventually

Make = Callable[..., Served]


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
    [line] = [line for line in served.lines() if line.get("error") == "saturated"]
    assert line["model"] == MODEL
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

    def requests() -> list[dict[str, Any]]:
        """Return the lines, that of the good request first: a line may be written after the next request's."""
        return sorted((line for line in served.lines() if line["message"] == "request"), key=itemgetter("status"))

    good, bad = eventually(lambda: found if len(found := requests()) == 2 else None)
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


def test_a_bad_setting_ends_the_start_with_one_line(make_server: Make) -> None:
    with pytest.raises(AssertionError) as error:
        make_server(slots="lots")
    assert "sluice: SLOTS='lots' is not a whole number" in str(error.value)
    assert "Traceback" not in str(error.value)
    with pytest.raises(AssertionError, match="sluice: API_KEYS_FILE=/nowhere can't be read"):
        make_server(api_keys_file="/nowhere")


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
