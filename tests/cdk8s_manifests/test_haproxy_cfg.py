"""What HAProxy carries to the pods, and what it tells of it."""

import json
import re
import socket
import time
from dataclasses import replace
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from cdk8s_manifests.dashboard import dashboard
from cdk8s_manifests.haproxy_cfg import GENERATION_PATHS, haproxy_cfg
from config import STAGES, Stage
from service import create_app
from service.settings import Role, Settings
from testbed.fetching import fetch
from testbed.haproxy import check
from testbed.stand_in import MODEL, StandIn
from testbed.waiting import eventually
from tests.support.haproxy import (
    SCALED,
    WORK,
    Make,
    Post,
    Run,
    chat,
    code,
    hold_the_slot,
    queue,
)
from tests.support.needs import RunDocker
from tests.support.rendered import container, find


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


def test_the_proxys_pod_has_the_file_that_its_configuration_loads() -> None:
    files = find(replace(SCALED, min_replicas=0), "ConfigMap", "proxy")["data"]
    [path] = re.findall(r"lua-load (\S+)", files["haproxy.cfg"])
    pod = container(replace(SCALED, min_replicas=0), "proxy", "haproxy")
    assert path in [f"{mount['mountPath']}/{name}" for mount in pod["volumeMounts"] for name in files]


def test_it_has_the_metrics_that_the_autoscaler_and_the_dashboard_ask_for(run: Run) -> None:
    proxy = run()
    told = fetch(f"http://127.0.0.1:{proxy.ports.status}/metrics").body.decode()
    for name in re.findall(r"haproxy_\w+", WORK + dashboard()):
        assert f"\n{name}{{" in told
    assert f"\n{WORK} " in told
