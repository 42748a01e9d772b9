"""HAProxy's queue: who goes first, how long anybody waits, and what is refused."""

import time
from concurrent.futures import Future
from functools import partial

from testbed.fetching import Reply
from testbed.haproxy import Ports
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
    learn_the_pace,
    queue,
    settled,
)


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
