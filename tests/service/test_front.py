"""A front before HAProxy before pods, as on a cluster."""

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from cdk8s_manifests.haproxy_cfg import haproxy_cfg
from config import LOCAL, Autoscaling
from service import create_app
from service.keys import digest
from service.settings import Settings
from testbed.docker import docker
from testbed.fetching import Reply, fetch
from testbed.gateway import Served, serve
from testbed.haproxy import Proxy, fronted
from testbed.stand_in import DURATIONS, MODEL, NAME, StandIn
from testbed.stand_in import model as stand_in_model
from testbed.waiting import eventually
from tests.support.needs import RunDocker

STAGE = replace(LOCAL, autoscaling=Autoscaling.REQUESTS, slots=2, requests_per_replica=2, queue_timeout=3, prestop=1)
HELLO = {"prompt": "Hi"}
# One pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}


@dataclass
class Way:
    """A request's way on a cluster: the front, HAProxy, and one pod, over the stand-in."""

    front: Served
    proxy: Proxy
    pod: Served
    stand_in: StandIn
    sockets: list[socket.socket] = field(default_factory=list)

    def hold(self, count: int, key: str = "sesame") -> list[socket.socket]:
        """Send requests and return their connections; no answer is read."""
        data = json.dumps(HELLO)
        head = f"POST /generate HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        sockets = [socket.create_connection(("127.0.0.1", self.front.port), timeout=30) for _ in range(count)]
        self.sockets += sockets
        for sock in sockets:
            sock.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n{data}".encode())
        return sockets

    def hang_up(self) -> None:
        """Close those connections."""
        while self.sockets:
            self.sockets.pop().close()

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        return fetch(
            f"{self.front.url}{path}", body, {name.replace("_", "-"): value for name, value in headers.items()}
        )


@pytest.fixture(scope="module")
def long_way(docker: RunDocker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("way")
        stand_in = StandIn().start()
        stack.callback(stand_in.stop)
        keys = folder / "keys.toml"
        keys.write_text(f'[alice]\nsha256 = "{digest("sesame")}"\n[bob]\nsha256 = "{digest("b")}"\nconcurrent = 1\n')
        of_pod = {"role": "back", "slots": 2, "queue_timeout": 3, "release": "pods-1"}
        pod = stack.enter_context(serve(stand_in.url, folder / "pod.log", **of_pod))
        settings: dict[str, Any] = {"queue_timeout": 3, "max_in_flight": 8, "api_keys_file": keys, "prestop": 1}
        settings["release"] = "fronts-1"
        front, proxy = stack.enter_context(fronted(haproxy_cfg(STAGE), folder, [pod], **settings))
        yield Way(front, proxy, pod, stand_in)


@pytest.fixture
def way(long_way: Way) -> Iterator[Way]:
    """Return the way, with the stand-in as new."""
    stand_in = long_way.stand_in
    stand_in.token_delay, stand_in.hold_at, stand_in.error_at, stand_in.error = 0.0, None, None, None
    stand_in.requests.clear()
    stand_in.cancelled = 0
    yield long_way
    long_way.hang_up()
    stand_in.release()
    eventually(lambda: stand_in.running == 0)
    stand_in.hold()
    for served in (long_way.front, long_way.pod):
        eventually(partial(is_idle, served))


def is_idle(served: Served) -> bool:
    return served.metric("sluice_requests_in_flight") == 0


AS_ALICE = {"Authorization": "Bearer sesame"}


def ask(way: Way, path: str = "/generate", body: Any = HELLO) -> Reply:
    return way.post(path, body, **AS_ALICE)


def error_of(reply: Reply) -> Any:
    error = reply.json()["error"]
    assert set(error) == {"code", "message", "hint"}
    return error["code"]


def test_an_answer_comes_whole_and_tells_its_waits(way: Way) -> None:
    reply = ask(way)
    body = reply.json()
    timings = body.pop("timings")
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    assert body == {"response": "Hello, world", "model": MODEL, "finish_reason": "stop", "usage": usage}
    assert 0 <= timings["queued_ms"] <= timings["first_token_ms"] <= timings["total_ms"]
    assert timings["busy_slots"] == 1  # of the pod: the front has no slots


def test_an_answer_says_of_which_releases_its_front_and_its_pod_are(way: Way) -> None:
    embeddings = ("/api/embed", {"model": MODEL, "input": "Hi"})
    for path, body in (("/generate", HELLO), ("/generate", HELLO | {"stream": True}), ("/api/chat", CHAT), embeddings):
        assert ask(way, path, body).headers["Sluice-Release"] == "fronts-1 pods-1", path
    assert way.post("/generate", HELLO).headers["Sluice-Release"] == "fronts-1"
    way.stand_in.error = (500, "broken")
    assert ask(way).headers["Sluice-Release"] == "fronts-1 pods-1"


def test_ollama_gets_what_it_gets_without_a_cluster(way: Way) -> None:
    body = {"prompt": "x", "system": "y", "images": [PNG], "max_tokens": 5, "seed": 7, "stop": ["z"]}
    assert ask(way, body=body).status == 200
    [through] = way.stand_in.chats()
    own = StandIn().start()
    app = create_app(Settings(ollama_host=own.url, model=MODEL))
    assert app.test_client().post("/generate", json=body).status_code == 200
    app.extensions["sluice"].default.ollama.pool.forget()
    own.stop()
    assert own.chats() == [through]


def test_anthropics_clients_are_answered_through_a_cluster(way: Way) -> None:
    reply = way.post("/v1/messages", {**CHAT, "max_tokens": 5}, X_Api_Key="sesame")
    assert (reply.status, reply.json()["content"]) == (200, [{"type": "text", "text": "Hello, world"}])
    reply = way.post("/v1/messages/count_tokens", CHAT, X_Api_Key="sesame")
    assert (reply.status, reply.json()) == (200, {"input_tokens": 7})
    assert [chat["options"]["num_predict"] for chat in way.stand_in.chats()] == [5, 1]
    way.stand_in.error = (400, "request (3000 tokens) exceeds the available context size (2048 tokens)")
    reply = way.post("/v1/messages/count_tokens", CHAT, X_Api_Key="sesame")
    assert reply.json()["error"]["message"] == "prompt is too long: 3000 tokens > 2048 maximum"


def test_a_stream_comes_piece_by_piece(way: Way) -> None:
    way.stand_in.token_delay = 0.1
    connection = HTTPConnection("127.0.0.1", way.front.port)
    connection.request("POST", "/generate", json.dumps({**HELLO, "stream": True}), AS_ALICE)
    response = connection.getresponse()
    times, pieces = [], []
    for line in response:
        times.append(time.monotonic())
        pieces.append(json.loads(line))
    connection.close()
    assert [piece["response"] for piece in pieces] == ["Hello", ", ", "world", ""]
    assert pieces[-1]["done"]
    assert times[2] - times[0] > 0.1


def test_openais_routes_work_too(way: Way) -> None:
    assert ask(way, "/v1/chat/completions", CHAT).json()["choices"][0]["message"]["content"] == "Hello, world"
    vectors = ask(way, "/v1/embeddings", {"model": MODEL, "input": ["a", "b"]}).json()
    assert [each["embedding"] for each in vectors["data"]] == [[0.6, 0.8]] * 2
    assert vectors["usage"]["prompt_tokens"] == 3
    assert fetch(f"{way.front.url}/v1/models", headers=AS_ALICE).json()["data"][0]["id"] == MODEL


def test_ollamas_routes_work_too(way: Way) -> None:
    whole = ask(way, "/api/chat", CHAT | {"stream": False}).json()
    assert whole["message"] == {"role": "assistant", "content": "Hello, world"}
    assert {name: whole[name] for name in DURATIONS} == DURATIONS  # the engine's own, by way of the pod
    *pieces, last = map(json.loads, ask(way, "/api/generate", HELLO | {"model": MODEL}).body.splitlines())
    assert "".join(piece["response"] for piece in pieces) == "Hello, world"
    assert last["eval_duration"] == DURATIONS["eval_duration"]
    vectors = ask(way, "/api/embed", {"model": MODEL, "input": ["a", "b"]}).json()
    assert (vectors["embeddings"], vectors["load_duration"]) == ([[0.6, 0.8]] * 2, 2_000_000)
    for path, told in {
        "/api/tags": {"models": [stand_in_model.listed(NAME, way.stand_in.capabilities)]},
        "/api/ps": {"models": [stand_in_model.running(NAME)]},
        "/api/version": {"version": stand_in_model.VERSION},
    }.items():
        assert fetch(f"{way.front.url}{path}", headers=AS_ALICE).json() == told
    assert ask(way, "/api/show", {"model": MODEL}).json()["details"] == stand_in_model.DETAILS


def test_an_error_of_the_pods_is_the_same_as_without_a_cluster(way: Way) -> None:
    way.stand_in.error = (400, "the prompt exceeds the context length")
    reply = ask(way)
    assert (reply.status, error_of(reply)) == (413, "prompt_too_long")
    way.stand_in.error = (400, "something about the request")
    reply = ask(way)
    assert (reply.status, reply.json()["error"]["message"]) == (400, "something about the request")
    way.stand_in.error = (500, "secret 0xdead")
    reply = ask(way)
    assert (reply.status, error_of(reply), reply.headers["Retry-After"]) == (502, "engine_failed", "5")
    assert "0xdead" not in reply.body.decode()


def test_an_error_in_mid_stream_ends_it_with_its_object(way: Way) -> None:
    way.stand_in.error_at = 1
    *_, last = ask(way, body={**HELLO, "stream": True}).body.splitlines()
    assert json.loads(last)["error"]["code"] == "engine_failed"
    assert "0xdead" not in last.decode()


def test_callers_without_a_key_or_with_a_bad_request_never_reach_haproxy(way: Way) -> None:
    before = len(way.proxy.log())
    assert way.post("/generate", HELLO).status == 401
    assert ask(way, body={"prompt": 1}).status == 400
    assert ask(way, body={**HELLO, "model": "other"}).status == 404
    assert ask(way, body={"prompt": "x" * 20_000}).status == 413
    for path in ("/engine/chat", "/engine/embed", "/model", "/metrics"):
        assert ask(way, path).status == 404
    assert ask(way).status == 200
    assert len(eventually(lambda: len(way.proxy.log()) > before and way.proxy.log())) == before + 1


def test_a_keys_own_limit_holds_before_the_queue(way: Way) -> None:
    way.stand_in.hold_at = 0
    way.hold(1, key="b")
    eventually(lambda: way.stand_in.running == 1)
    reply = way.post("/generate", HELLO, Authorization="Bearer b")
    assert (reply.status, error_of(reply)) == (429, "quota_exceeded")
    way.hang_up()
    eventually(lambda: way.stand_in.cancelled == 1)


def test_a_caller_that_leaves_stops_the_model_within_a_second(way: Way) -> None:
    way.stand_in.hold_at = 1
    connection = HTTPConnection("127.0.0.1", way.front.port)
    connection.request("POST", "/generate", json.dumps({**HELLO, "stream": True}), AS_ALICE)
    assert b"Hello" in connection.getresponse().readline()
    left = time.monotonic()
    connection.close()
    eventually(lambda: way.stand_in.cancelled == 1)
    assert time.monotonic() - left < 1


def test_the_wait_in_haproxys_queue_is_in_the_timings_and_a_wait_too_long_a_503(way: Way) -> None:
    way.stand_in.hold_at = 0
    holding = way.hold(2)
    eventually(lambda: way.stand_in.running == 2)
    reply = ask(way)  # after the three seconds that the queue allows
    assert (reply.status, error_of(reply)) == (503, "saturated")
    assert int(reply.headers["Retry-After"]) >= 1
    way.stand_in.release()
    assert all(b"200 OK" in sock.recv(65536) for sock in holding)


def test_both_log_lines_of_a_request_have_its_id_and_key_and_the_pods_says_how_long_it_held_a_slot(way: Way) -> None:
    way.post("/generate", HELLO, **AS_ALICE, X_Request_Id="mine-7", X_Priority="batch")

    def line(served: Served) -> Any:
        return next((line for line in served.lines() if line.get("request_id") == "mine-7"), None)

    front, pod = eventually(lambda: line(way.front)), eventually(lambda: line(way.pod))
    assert (front["key"], front["path"], front["completion_tokens"]) == ("alice", "/generate", 3)
    assert (pod["path"], pod["priority"], pod["completion_tokens"]) == ("/engine/chat", "batch", 3)
    assert (pod["key"], pod["model"]) == ("alice", MODEL)
    assert 0 < pod["slot_ms"] <= pod["total_ms"] <= front["total_ms"]
    assert "slot_ms" not in front


def test_more_than_a_front_may_have_under_way_is_refused_at_once(way: Way, tmp_path: Path) -> None:
    way.stand_in.hold_at = 0
    with serve("http://127.0.0.1:1", tmp_path / "log", role="front", upstream=way.proxy.url, max_in_flight=1) as front:
        front.connect("/generate", HELLO)
        eventually(lambda: front.metric("sluice_requests_in_flight") == 1)
        started = time.monotonic()
        reply = fetch(f"{front.url}/generate", HELLO)
        assert (reply.status, error_of(reply)) == (503, "saturated")
        assert time.monotonic() - started < 1


def test_the_page_is_the_fronts_and_knows_what_the_pods_model_can_do(way: Way) -> None:
    page = fetch(f"{way.front.url}/")
    assert page.status == 200
    assert b'"vision": true' in page.body
    assert fetch(f"{way.front.private}/readyz").status == 200


def test_slow_uploads_take_no_slot(way: Way) -> None:
    """Sixteen uploads of which 40 kB have come, more than HAProxy buffers, and the rest comes byte by byte."""
    head = "POST /generate HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sesame\r\nContent-Length: 90000\r\n\r\n"
    slow = [socket.create_connection(("127.0.0.1", way.front.port)) for _ in range(16)]
    try:
        for sock in slow:
            sock.sendall(head.encode() + b" " * 40_000)
        for _ in range(3):
            for sock in slow:
                sock.sendall(b" ")
            assert [ask(way).status for _ in range(4)] == [200] * 4
        assert way.proxy.metric('haproxy_backend_current_sessions{proxy="generate"}') == 0
    finally:
        for sock in slow:
            sock.close()


def test_haproxys_end_in_mid_stream_is_an_error_that_the_caller_sees(
    make_server: Callable[..., Served], stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in.hold_at = 1
    pod = make_server(role="back")
    with fronted(haproxy_cfg(STAGE), tmp_path, [pod], queue_timeout=3) as (front, proxy):
        connection = HTTPConnection("127.0.0.1", front.port)
        connection.request("POST", "/generate", json.dumps({**HELLO, "stream": True}))
        response = connection.getresponse()
        assert json.loads(response.readline()) == {"response": "Hello"}
        docker("kill", proxy.name)
        killed = time.monotonic()
        assert json.loads(response.readline())["error"]["code"] == "engine_failed"
        assert time.monotonic() - killed < 2
        connection.close()
        refused = fetch(f"{front.url}/generate", HELLO)
        assert (refused.status, error_of(refused)) == (503, "engine_unavailable")
        assert refused.headers["Retry-After"]


def test_a_front_that_drains_has_haproxy_passed_over_and_finishes_its_streams(
    make_server: Callable[..., Served], stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in.token_delay = 1.0
    pod = make_server(role="back")
    with fronted(haproxy_cfg(STAGE), tmp_path, [pod], queue_timeout=3, prestop=3) as (front, proxy):
        stream = HTTPConnection("127.0.0.1", front.port)
        stream.request("POST", "/generate", json.dumps({**HELLO, "stream": True}))
        response = stream.getresponse()
        front.process.send_signal(signal.SIGTERM)
        eventually(lambda: proxy.status("/readyz") == 503)  # so that other proxies look for another queue
        stand_in.token_delay = 0.0
        late = HTTPConnection("127.0.0.1", front.port)
        late.request("POST", "/generate", json.dumps(HELLO))
        reply = late.getresponse()
        assert (reply.status, json.load(reply)["response"]) == (200, "Hello, world")
        assert reply.headers["Connection"] == "close"  # so that no client's next request meets a closed door
        assert json.loads(response.read().splitlines()[-1])["done"]
        for connection in (stream, late):
            connection.close()
        assert front.process.wait(15) == 0
        assert proxy.status("/healthz") == 200


def test_one_request_ends_the_engines_of_two_pods_at_most(docker: RunDocker, stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.error_at, stand_in.error_line = 1, "model runner has unexpectedly stopped"
    with ExitStack() as stack:
        pods = [stack.enter_context(serve(stand_in.url, tmp_path / f"{n}.log", role="back", slots=2)) for n in range(4)]
        front, _ = stack.enter_context(fronted(haproxy_cfg(STAGE), tmp_path, pods, queue_timeout=3))
        for _ in range(2):
            reply = fetch(f"{front.url}/generate", HELLO)
            assert (reply.status, error_of(reply)) == (422, "kills_engine")
        assert len(stand_in.chats()) == 2


@pytest.mark.parametrize("path", ["/%67enerate", "//generate", "/v1/chat%2fcompletions", "/x/../generate"])
def test_a_path_that_is_written_in_another_way_never_reaches_haproxy(way: Way, path: str) -> None:
    before = len(way.proxy.log())
    with socket.create_connection(("127.0.0.1", way.front.port), timeout=30) as sock:
        body = json.dumps(HELLO)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sesame\r\n"
        sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        status = int(sock.recv(65536).split()[1])
    assert status in (400, 404)
    assert ask(way).status == 200
    assert len(eventually(lambda: len(way.proxy.log()) > before and way.proxy.log())) == before + 1
