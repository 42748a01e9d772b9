"""HAProxy before pods that die, drain, stop, or aren't there yet."""

import json
import signal
import time
from http.client import HTTPResponse
from pathlib import Path

from testbed.gateway import serve
from testbed.stand_in import StandIn
from testbed.waiting import eventually
from tests.support.haproxy import (
    UP,
    WORK,
    Make,
    Post,
    Run,
    ask,
    code,
    crash,
    hold_the_slot,
    queue,
)


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
