import json
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pytest

from cdk8s_manifests.autoscaling import WORK
from cdk8s_manifests.dashboard import dashboard
from cdk8s_manifests.haproxy_cfg import GENERATION_PATHS, haproxy_cfg
from config import LOCAL, STAGES, Autoscaling, Stage
from service import create_app
from service.gateway import KEY_NAME
from service.settings import Role, Settings
from testbed.fetching import Reply, fetch
from testbed.gateway import Served, serve
from testbed.haproxy import Ports, Proxy, check, haproxy
from testbed.stand_in import MODEL, StandIn
from testbed.waiting import eventually
from tests.support.needs import RunDocker
from tests.support.rendered import container, find

SCALED = replace(LOCAL, autoscaling=Autoscaling.REQUESTS)
ONE_SLOT = replace(SCALED, slots=1, requests_per_replica=1, queue_timeout=5, prestop=1)
UP = 'haproxy_backend_active_servers{proxy="generate"}'
Make = Callable[..., Served]
Run = Callable[..., Proxy]
Post = Callable[..., Future[Reply]]


@pytest.fixture
def run(docker: RunDocker, tmp_path: Path) -> Iterator[Run]:
    """Return a function that starts HAProxy in front of gateways, for a stage of one slot and other changes."""
    with ExitStack() as stack:

        def start(
            *pods: Served,
            ports: Ports | None = None,
            holders: tuple[Ports, ...] = (),
            **changes: Any,
        ) -> Proxy:
            folder = tmp_path / f"haproxy-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            text = haproxy_cfg(replace(ONE_SLOT, **changes))
            return stack.enter_context(haproxy(text, folder, pods, ports, holders))

        yield start


@pytest.fixture
def post() -> Iterator[Post]:
    """Return a function that asks for an answer in the background."""
    with ThreadPoolExecutor(64) as pool:

        def send(
            proxy: Proxy, prompt: str = "x", priority: str = "interactive", key: str = "", **body: Any
        ) -> Future[Reply]:
            headers = {"X-Priority": priority} | ({KEY_NAME: key} if key else {})
            return pool.submit(fetch, f"{proxy.url}/engine/chat", chat(prompt, **body), headers)

        yield send


def chat(prompt: str = "x", **body: Any) -> dict[str, Any]:
    """Return a request as a front sends it."""
    return {"messages": [{"role": "user", "content": prompt}], **body}


def code(reply: Reply) -> Any:
    error = reply.json()["error"]
    assert set(error) == {"code", "message", "hint"}
    return error["code"]


def ask(proxy: Proxy) -> socket.socket:
    """Send a request and return its connection."""
    sock = socket.create_connection(("127.0.0.1", proxy.ports.clients), timeout=10)
    sock.sendall(b'POST /engine/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n{"messages":[]}')
    return sock


def crash(served: Served) -> None:
    """Kill gunicorn with its worker, as when a container runs out of memory."""
    for process in (psutil.Process(served.process.pid), *psutil.Process(served.process.pid).children()):
        process.kill()


def queue(proxy: Proxy, post: Post, *prompts: str, priority: str = "interactive", key: str = "") -> list[Future[Reply]]:
    """Queue the prompts one after the other."""
    futures = []
    for prompt in prompts:
        wanted = proxy.waiting + 1
        futures.append(post(proxy, prompt, priority, key))
        eventually(partial(is_waiting, proxy, wanted))
    return futures


def is_waiting(proxy: Proxy, wanted: float) -> bool:
    return proxy.waiting == wanted


def settled(reply: Future[Reply], proxy: Proxy, places: int) -> bool:
    return reply.done() or proxy.waiting == places


def hold_the_slot(stand_in: StandIn, proxy: Proxy, post: Post) -> Future[Reply]:
    """Have the only slot taken until stand_in.release()."""
    stand_in.hold_at = 0
    first = post(proxy, "first")
    eventually(lambda: stand_in.running == 1)
    return first


@pytest.mark.parametrize("stage", [*STAGES.values(), replace(SCALED, min_replicas=0)], ids=lambda stage: stage.name)
def test_haproxy_finds_nothing_to_say_about_any_stage(docker: RunDocker, stage: Stage, tmp_path: Path) -> None:
    assert check(haproxy_cfg(stage), tmp_path) == ""


def test_each_deadline_of_haproxy_outlives_the_one_inside_it() -> None:
    for stage in STAGES.values():
        text = haproxy_cfg(stage)
        # The answer a pod may give last, HAProxy's patience with a pod, a proxy's with the holder, the balancer's.
        timeouts = [int(seconds) for seconds in re.findall(r"timeout server (\d+)s", text)]
        pod, holder = timeouts
        assert stage.queue_timeout + stage.generation_timeout < pod
        assert stage.queue_timeout + pod <= holder < stage.idle_timeout
        keep_alive = re.search(r"timeout http-keep-alive (\d+)s", text)
        assert int(keep_alive[1]) > stage.idle_timeout


def test_it_queues_just_what_generates() -> None:
    rules = create_app(Settings(role=Role.BACK)).url_map.iter_rules()
    assert {rule.rule for rule in rules} == set(GENERATION_PATHS)


def test_pods_together_run_as_many_as_they_have_slots(
    make_server: Make, stand_in: StandIn, run: Run, post: Post
) -> None:
    stand_in.hold_at = 0
    proxy = run(make_server(role="back", slots=2), make_server(role="back", slots=2), slots=2, requests_per_replica=2)
    replies = [post(proxy) for _ in range(7)]
    eventually(lambda: (proxy.waiting, stand_in.running) == (3, 4))
    assert proxy.metric(WORK) == 7  # what the autoscaler reads
    stand_in.release()
    assert [reply.result().status for reply in replies] == [200] * 7


def test_interactive_requests_go_first_and_one_batch_request_in_four_with_them(
    make_server: Make, stand_in: StandIn, run: Run, post: Post
) -> None:
    proxy = run(make_server(role="back", slots=1))
    hold_the_slot(stand_in, proxy, post)
    replies = queue(proxy, post, *"abcd", priority="batch") + queue(proxy, post, *"vwxyz")
    stand_in.release()
    assert {reply.result().status for reply in replies} == {200}
    order = [chat["messages"][0]["content"] for chat in stand_in.chats()]
    assert order == ["first", "d", *"vwxyz", *"abc"]


def test_what_the_model_can_do_is_told_while_all_slots_are_taken(
    make_server: Make, stand_in: StandIn, run: Run, post: Post
) -> None:
    proxy = run(make_server(role="back", slots=1))
    first = hold_the_slot(stand_in, proxy, post)
    replies = queue(proxy, post, "a")
    told = fetch(f"{proxy.url}/model").json()
    assert (told["model"], told["capabilities"]) == (MODEL, ["completion", "embedding", "tools", "vision"])
    stand_in.release()
    assert {reply.result().status for reply in [first, *replies]} == {200}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", b"{}"),
        ("/engine/%63hat", b"{}"),
        ("//engine/chat", b"{}"),
        ("/engine/../engine/chat", b"{}"),
        ("/engine/chat/", b"{}"),
        ("/engine/chat", None),
        ("/model", b"{}"),
        ("/readyz", None),
        ("/", None),
    ],
)
def test_it_carries_what_fronts_ask_for_and_nothing_else(
    make_server: Make, run: Run, path: str, body: bytes | None
) -> None:
    served = make_server(role="back")
    proxy = run(served)
    reply = fetch(f"{proxy.url}{path}", body)
    assert (reply.status, code(reply)) == (404, "not_found")
    assert not [line for line in served.lines() if line["message"] == "request"]


def test_nobody_but_the_front_beside_it_reaches_its_first_door() -> None:
    for stage in STAGES.values():
        binds = re.findall(r"frontend (\w+)\n    bind (\S+)", haproxy_cfg(stage))
        assert dict(binds) == {"clients": "127.0.0.1:8080", "queue": ":8081", "status": ":8404"}


@pytest.mark.parametrize("port", ["clients", "queue", "status"])
def test_no_port_speaks_http_2(make_server: Make, run: Run, port: str) -> None:
    proxy = run(make_server(role="back"))
    with socket.create_connection(("127.0.0.1", getattr(proxy.ports, port)), timeout=10) as sock:
        settings = b"\0\0\0\x04\0\0\0\0\0"
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
        said = sock.recv(1024)
    assert said.startswith(b"HTTP/1.1 400 "), said


def test_a_wait_that_gets_too_long_is_a_503_that_says_when_to_come_back(
    make_server: Make, stand_in: StandIn, run: Run, post: Post
) -> None:
    proxy = run(make_server(role="back", slots=1), queue_timeout=1)
    first = hold_the_slot(stand_in, proxy, post)
    reply = post(proxy).result()
    assert (reply.status, code(reply)) == (503, "saturated")
    assert reply.headers["retry-after"] in ("1", "2")  # it was the only one to wait
    stand_in.release()
    assert first.result().status == 200


def test_smoke_tests_go_first_and_only_as_many_as_there_are_slots(
    make_server: Make, stand_in: StandIn, run: Run, post: Post
) -> None:
    proxy = run(make_server(role="back", slots=1))
    first = hold_the_slot(stand_in, proxy, post)
    replies = queue(proxy, post, *"ab") + queue(proxy, post, "smoke", priority="smoke")
    second = post(proxy, priority="smoke").result()
    assert (second.status, code(second), second.headers["retry-after"]) == (503, "saturated", "1")
    stand_in.release()
    assert {reply.result().status for reply in [first, *replies]} == {200}
    assert [chat["messages"][0]["content"] for chat in stand_in.chats()] == ["first", "smoke", "a", "b"]


def learn_the_pace(stand_in: StandIn, proxy: Proxy, post: Post, seconds: float) -> None:
    """Have requests wait in turn, each for an answer of so many seconds."""
    stand_in.first_delay = seconds
    for reply in [post(proxy) for _ in range(6)]:
        assert reply.result().status == 200


def test_a_wait_that_would_be_too_long_is_refused_at_once_with_that_wait(
    make_server: Make, stand_in: StandIn, run: Run, post: Post
) -> None:
    proxy = run(make_server(role="back", slots=1), queue_timeout=3)
    learn_the_pace(stand_in, proxy, post, 0.5)
    stand_in.first_delay = 0.0
    first = hold_the_slot(stand_in, proxy, post)
    waiting: list[Future[Reply]] = []
    for _ in range(12):  # 3 s are about six places of half a second
        started = time.monotonic()
        reply = post(proxy)
        eventually(partial(settled, reply, proxy, len(waiting) + 1))
        if reply.done():
            break
        waiting.append(reply)
    waiting += queue(proxy, post, "smoke", priority="smoke")
    assert waiting
    refused = reply.result()
    assert time.monotonic() - started < 0.5
    assert (refused.status, code(refused)) == (503, "saturated")
    assert 3 < int(refused.headers["retry-after"]) <= 8
    stand_in.release()
    assert {reply.result().status for reply in [first, *waiting]} == {200}


def test_interactive_requests_are_not_refused_for_a_queue_of_batch_requests(
    make_server: Make, stand_in: StandIn, run: Run, post: Post
) -> None:
    proxy = run(make_server(role="back", slots=1), queue_timeout=3)
    learn_the_pace(stand_in, proxy, post, 0.5)
    stand_in.first_delay = 0.0
    hold_the_slot(stand_in, proxy, post)
    batch = queue(proxy, post, *"abcdefghij", priority="batch")
    [urgent] = queue(proxy, post, "urgent")
    stand_in.release()
    assert urgent.result().status == 200
    assert {reply.result().status for reply in batch} == {200}


def test_keys_share_the_pods_whatever_each_has_queued(
    make_server: Make, stand_in: StandIn, run: Run, post: Post
) -> None:
    proxy = run(make_server(role="back", slots=1), queue_timeout=20)
    learn_the_pace(stand_in, proxy, post, 1.0)
    stand_in.first_delay = 0.0
    before = len(stand_in.chats())
    hold_the_slot(stand_in, proxy, post)
    replies = queue(proxy, post, *"abcdefgh", key="greedy") + queue(proxy, post, *"xyz", key="modest")
    stand_in.release()
    assert {reply.result().status for reply in replies} == {200}
    order = "".join(chat["messages"][0]["content"] for chat in stand_in.chats()[before + 1 :])
    assert [each for each in order if each in "abcdefgh"] == [*"abcdefgh"]
    assert order.index("x") < order.index("f")
    assert order.index("z") < order.index("h")


def test_a_key_with_nothing_queued_is_not_refused_for_what_another_has_queued(
    make_server: Make, stand_in: StandIn, run: Run, post: Post
) -> None:
    proxy = run(make_server(role="back", slots=1), queue_timeout=3)
    learn_the_pace(stand_in, proxy, post, 0.5)
    stand_in.first_delay = 0.0
    hold_the_slot(stand_in, proxy, post)
    greedy: list[Future[Reply]] = []
    while True:
        reply = post(proxy, key="greedy")
        eventually(partial(settled, reply, proxy, len(greedy) + 1))
        if reply.done():
            break
        greedy.append(reply)
    assert (reply.result().status, code(reply.result())) == (503, "saturated")
    assert greedy
    [modest] = queue(proxy, post, "modest", key="modest")
    stand_in.release()
    assert modest.result().status == 200
    assert {reply.result().status for reply in greedy} == {200}


def test_a_slow_past_never_closes_an_empty_queue(make_server: Make, stand_in: StandIn, run: Run, post: Post) -> None:
    stand_in.hold_at = 0
    pods = [make_server(role="back", slots=1), make_server(role="back", slots=1)]
    proxy = run(*pods, queue_timeout=2)
    busy = [post(proxy), post(proxy)]
    eventually(lambda: stand_in.running == 2)
    assert post(proxy).result().status == 503  # a place with two pods costs two seconds: with one, four
    crash(pods[0])
    eventually(lambda: (proxy.metric(UP), proxy.waiting) == (1, 1))
    assert post(proxy).result().status == 503  # behind the one that the dead pod had
    eventually(lambda: proxy.waiting == 0)
    queue(proxy, post, "next")
    stand_in.release()
    assert {reply.result().status for reply in busy} == {200, 503}


def test_a_pod_that_dies_before_its_answer_is_replaced_by_another(
    make_server: Make, stand_in: StandIn, run: Run, post: Post, tmp_path: Path
) -> None:
    stand_in.hold_at = 0
    pods = [make_server(role="back", slots=1), make_server(role="back", slots=1)]
    proxy = run(*pods)
    replies = [post(proxy), post(proxy)]
    eventually(lambda: stand_in.running == 2)
    crash(pods[0])
    eventually(lambda: proxy.waiting == 1)
    stand_in.release()
    assert [reply.result().status for reply in replies] == [200, 200]


def test_a_pod_without_its_model_server_is_passed_over_also_while_all_others_are_busy(
    make_server: Make, stand_in: StandIn, run: Run, post: Post, tmp_path: Path
) -> None:
    other = StandIn().start()
    with serve(other.url, tmp_path / "other", role="back", slots=1) as broken:
        proxy = run(broken, make_server(role="back", slots=1))
        other.stop()
        assert [post(proxy).result().status for _ in range(4)] == [200] * 4  # well before the checks have seen it
        hold_the_slot(stand_in, proxy, post)
        replies = queue(proxy, post, *"abc")
        stand_in.release()
        assert {reply.result().status for reply in replies} == {200}


def test_a_pod_that_drains_finishes_its_streams_and_gets_no_more(
    make_server: Make, stand_in: StandIn, run: Run, post: Post
) -> None:
    stand_in.token_delay = 0.5
    pods = [make_server(role="back", slots=1, prestop=3), make_server(role="back", slots=1)]
    proxy = run(*pods)
    streams = [post(proxy, stream=True), post(proxy, stream=True)]
    eventually(lambda: stand_in.running == 2)
    pods[0].process.send_signal(signal.SIGTERM)
    stand_in.token_delay = 0.01
    later = [post(proxy) for _ in range(20)]
    for reply in streams:
        assert json.loads(reply.result().body.splitlines()[-1])["done"]
    assert {reply.result().status for reply in later} == {200}
    eventually(lambda: proxy.metric(UP) == 1)
    assert pods[0].process.wait(15) == 0


def test_a_client_that_leaves_gives_up_its_place_and_its_generation(
    make_server: Make, stand_in: StandIn, run: Run
) -> None:
    stand_in.hold_at = 0
    proxy = run(make_server(role="back", slots=1))
    first = ask(proxy)
    eventually(lambda: stand_in.running == 1)
    second = ask(proxy)
    eventually(lambda: proxy.waiting == 1)
    second.close()
    eventually(lambda: proxy.waiting == 0)
    first.close()
    eventually(lambda: stand_in.cancelled == 1)
    assert len(stand_in.chats()) == 1


def test_each_token_comes_when_it_is_generated(make_server: Make, stand_in: StandIn, run: Run) -> None:
    stand_in.tokens, stand_in.token_delay = ["word "] * 40, 0.02
    proxy = run(make_server(role="back"))
    connection = HTTPConnection("127.0.0.1", proxy.ports.clients)
    connection.request("POST", "/engine/chat", json.dumps(chat()))
    response = connection.getresponse()
    times = [time.monotonic() for _ in response][:-1]  # the last two lines come together
    connection.close()
    gaps = [after - before for before, after in pairwise(times)]
    assert len(gaps) == 40
    assert median(gaps) > 0.01  # in bursts most would come together


def test_a_request_larger_than_haproxys_buffer_reaches_the_pod(make_server: Make, stand_in: StandIn, run: Run) -> None:
    proxy = run(make_server(role="back"))
    assert fetch(f"{proxy.url}/engine/chat", chat("x" * 1_000_000)).status == 200
    [sent] = stand_in.chats()
    assert len(sent["messages"][0]["content"]) == 1_000_000


def test_the_wait_in_the_queue_is_told_with_the_answer(
    make_server: Make, stand_in: StandIn, run: Run, post: Post
) -> None:
    proxy = run(make_server(role="back", slots=1))
    first = hold_the_slot(stand_in, proxy, post)
    [reply] = queue(proxy, post, "a")
    eventually(lambda: proxy.metric('haproxy_backend_current_queue{proxy="generate"}') == 1)
    time.sleep(0.3)
    stand_in.release()
    waits = [float(each.result().headers["x-proxy-queued-ms"]) for each in (first, reply)]
    assert waits[0] < 50
    assert 300 <= waits[1] < 5000


def test_a_request_keeps_its_id_through_the_queue(make_server: Make, run: Run) -> None:
    served = make_server(role="back")
    proxy = run(served)
    reply = fetch(f"{proxy.url}/engine/chat", chat(), {"X-Request-Id": "mine-1"})
    assert reply.headers["x-request-id"] == "mine-1"
    eventually(lambda: any(line.get("request_id") == "mine-1" for line in served.lines()))
    for bad in ("a b", "x" * 129):
        given = fetch(f"{proxy.url}/engine/chat", chat(), {"X-Request-Id": bad}).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f-]{36}", given)


def test_the_log_has_one_line_a_request_without_prompt_or_key(make_server: Make, run: Run) -> None:
    proxy = run(make_server(role="back"))
    headers = {"Authorization": "Bearer secret", "X-Request-Id": "mine-1"}
    fetch(f"{proxy.url}/model", headers=headers)
    fetch(f"{proxy.url}/engine/chat?key=secret", chat("secret"), headers)
    [line] = eventually(proxy.log)
    assert (line["request_id"], line["method"], line["path"], line["status"]) == ("mine-1", "POST", "/engine/chat", 200)
    assert "secret" not in json.dumps(line)


def test_without_a_pod_the_answer_comes_at_once(run: Run, post: Post) -> None:
    proxy = run()
    started = time.monotonic()
    reply = post(proxy).result()
    assert (reply.status, code(reply), reply.headers["retry-after"]) == (503, "engine_unavailable", "5")
    assert time.monotonic() - started < 1


def test_with_a_minimum_of_no_pods_a_request_is_held_for_the_autoscaler_to_see(run: Run, post: Post) -> None:
    proxy = run(min_replicas=0, queue_timeout=2)
    started = time.monotonic()
    reply = post(proxy)
    eventually(lambda: proxy.metric(WORK) == 1)
    refused = reply.result()
    assert (refused.status, code(refused), refused.headers["retry-after"]) == (503, "engine_unavailable", "5")
    assert 1 < time.monotonic() - started < 4


def test_a_request_that_is_held_is_answered_as_soon_as_there_is_a_pod(
    make_server: Make, stand_in: StandIn, run: Run, post: Post
) -> None:
    proxy = run(make_server(role="back"), min_replicas=0, queue_timeout=20)
    stand_in.error, stand_in.loaded = (500, "no model"), False
    eventually(lambda: proxy.metric(UP) == 0)
    reply = post(proxy)
    eventually(lambda: proxy.metric(WORK) == 1)
    assert not reply.done()
    stand_in.error = None
    assert reply.result().status == 200


def test_the_proxys_pod_has_the_file_that_its_configuration_loads() -> None:
    files = find(replace(SCALED, min_replicas=0), "ConfigMap", "proxy")["data"]
    [path] = re.findall(r"lua-load (\S+)", files["haproxy.cfg"])
    pod = container(replace(SCALED, min_replicas=0), "proxy", "haproxy")
    assert path in [f"{mount['mountPath']}/{name}" for mount in pod["volumeMounts"] for name in files]


def test_a_request_is_held_for_a_pod_that_is_known_and_not_ready(make_server: Make, run: Run, post: Post) -> None:
    pod = make_server(role="back")
    crash(pod)
    proxy = run(pod, min_replicas=0, queue_timeout=3)
    assert code(post(proxy).result()) == "engine_unavailable"  # not what a connection that failed would say


def test_a_request_whose_last_pod_goes_while_it_waits_is_told_when_to_come_back(
    make_server: Make, stand_in: StandIn, run: Run, post: Post
) -> None:
    pod = make_server(role="back", slots=1)
    proxy = run(pod)
    hold_the_slot(stand_in, proxy, post)
    [reply] = queue(proxy, post, "next")
    crash(pod)
    assert (reply.result().status, reply.result().headers["retry-after"]) == (503, "5")


def test_a_proxy_that_stops_is_open_for_a_while_and_ends_its_streams(
    make_server: Make, stand_in: StandIn, run: Run, post: Post
) -> None:
    stand_in.token_delay = 1.0
    proxy = run(make_server(role="back", slots=2), slots=2, prestop=2)
    stream = post(proxy, stream=True)
    eventually(lambda: stand_in.running == 1)
    proxy.stop_softly()
    eventually(lambda: proxy.status("/readyz") == 503)
    with ask(proxy) as sock:
        late = HTTPResponse(sock)
        late.begin()
        assert late.status == 200
    eventually(lambda: proxy.status("/healthz") == 0)
    assert json.loads(stream.result().body.splitlines()[-1])["done"]


def test_all_proxies_share_one_queue_and_the_next_takes_over(
    make_server: Make, stand_in: StandIn, run: Run, post: Post
) -> None:
    stand_in.hold_at = 0
    served = make_server(role="back", slots=1, max_queue=4)
    holders = Ports.free(), Ports.free()
    # On this machine they have one address and are told apart by their names.
    proxies = [run(served, ports=ports, holders=holders) for ports in holders]
    eventually(lambda: all(each.metric('haproxy_backend_active_servers{proxy="holder"}') == 2 for each in proxies))
    replies = [post(proxy) for proxy in proxies for _ in range(3)]
    eventually(lambda: sum(proxy.waiting for proxy in proxies) == 5)
    holder, other = sorted(proxies, key=lambda proxy: proxy.waiting, reverse=True)
    assert (holder.waiting, other.waiting) == (5, 0)
    holder.stop_softly()
    eventually(lambda: other.metric('haproxy_backend_active_servers{proxy="holder"}') == 1)
    replies.append(post(other))
    eventually(lambda: other.metric('haproxy_backend_current_sessions{proxy="generate"}') == 1)
    stand_in.release()
    assert [reply.result().status for reply in replies] == [200] * 7


def test_it_has_the_metrics_that_the_autoscaler_and_the_dashboard_ask_for(run: Run) -> None:
    proxy = run()
    told = fetch(f"http://127.0.0.1:{proxy.ports.status}/metrics").body.decode()
    for name in re.findall(r"haproxy_\w+", WORK + dashboard()):
        assert f"\n{name}{{" in told
    assert f"\n{WORK} " in told
