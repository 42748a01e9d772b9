"""HAProxy before the pods of several models: each has a queue of its own, and X-Model says which one is meant."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cdk8s_manifests.autoscaling import work_of
from cdk8s_manifests.haproxy_cfg import haproxy_cfg
from config import LOCAL, Model, ServedModel
from service.front import MODEL_NAME
from testbed.fetching import Reply, fetch
from testbed.haproxy import Proxy, check
from testbed.waiting import eventually
from tests.support.haproxy import Post, Run, chat, code
from tests.support.needs import RunDocker
from tests.support.pods import NamedPod, named_pods
from tests.support.several_models import LOCAL_TWO, TWO_MODELS, TWO_NODES

FIRST, OTHER = LOCAL.model.name, "hf.co/sentence-transformers/all-MiniLM:F16"
ENCODED, SLUG = "hf.co%2Fsentence-transformers%2Fall-MiniLM%3AF16", "hf-co-sentence-transformers-all-minilm-f16"
SERVED = ServedModel(model=Model(name=OTHER, weights_mib=1, kv_kib_per_token=0), slots=1)
QUEUE = f"generate-{SLUG}"


@pytest.fixture
def pods() -> Iterator[list[NamedPod]]:
    with named_pods("first", "other") as found:
        yield found


@pytest.fixture
def proxy(run: Run, pods: list[NamedPod]) -> Proxy:
    """Return a HAProxy before a pod with one slot of each of two models."""
    return start(run, pods[:1], pods[1:])


def start(run: Run, first: list[NamedPod], other: list[NamedPod], **changes: Any) -> Proxy:
    served = {"more_models": (SERVED,), "queue_timeout": 20, **changes}
    proxy = run(*first, others={f"pods-{SLUG}": other}, **served)
    wanted = {"generate": len(first), QUEUE: len(other)}
    up = 'haproxy_backend_active_servers{{proxy="{}"}}'
    eventually(lambda: {queue: proxy.metric(up.format(queue)) for queue in wanted} == wanted)
    return proxy


def waiting(proxy: Proxy, queue: str) -> float:
    return proxy.metric(f'haproxy_backend_current_queue{{proxy="{queue}"}}')


def pod_of(reply: Reply) -> str:
    assert reply.status == 200, reply.body
    name: str = reply.json()["pod"]
    return name


@pytest.mark.parametrize("stage", [LOCAL_TWO, TWO_MODELS, TWO_NODES], ids=["local", "dev", "prod"])
def test_haproxy_finds_nothing_to_say_about_several_models(docker: RunDocker, stage: Any, tmp_path: Path) -> None:
    assert check(haproxy_cfg(stage), tmp_path) == ""


def test_a_comment_is_there_once_however_many_models_there_are() -> None:
    alone, several = (re.findall(r"^ *# .*", haproxy_cfg(stage), re.MULTILINE) for stage in (LOCAL, LOCAL_TWO))
    assert len(several) == len(set(several))
    assert set(alone) < set(several)


@pytest.mark.parametrize("path", ["/engine/chat", "/engine/embed"])
def test_a_request_goes_to_the_pods_of_its_model(proxy: Proxy, pods: list[NamedPod], path: str) -> None:
    for model, pod in {FIRST: "first", ENCODED: "other"}.items():
        assert pod_of(fetch(f"{proxy.url}{path}", chat(), {MODEL_NAME: model})) == pod


def test_what_a_model_can_do_is_asked_of_its_own_pods(proxy: Proxy) -> None:
    for model, pod in {FIRST: "first", ENCODED: "other"}.items():
        assert pod_of(fetch(f"{proxy.url}/model", headers={MODEL_NAME: model})) == pod


def test_a_front_that_names_no_model_means_the_first(proxy: Proxy) -> None:
    assert pod_of(fetch(f"{proxy.url}/engine/chat", chat())) == "first"
    assert pod_of(fetch(f"{proxy.url}/model")) == "first"


def test_a_model_alone_gets_all_requests_whatever_they_name(run: Run) -> None:
    with named_pods("only") as [only]:
        assert pod_of(fetch(f"{run(only).url}/engine/chat", chat(), {MODEL_NAME: "of-the-release-before"})) == "only"


@pytest.mark.parametrize("model", ["llava", OTHER, "All-MiniLM", ""])
def test_a_model_that_no_pod_has_is_refused_before_any_queue(proxy: Proxy, pods: list[NamedPod], model: str) -> None:
    headers = {MODEL_NAME: model}
    doors = [f"http://127.0.0.1:{port}" for port in (proxy.ports.clients, proxy.ports.queue)]
    replies = [fetch(f"{door}/engine/chat", chat(), headers) for door in doors]
    replies.append(fetch(f"{proxy.url}/model", headers=headers))
    for reply in replies:
        assert (reply.status, code(reply), reply.headers["retry-after"]) == (503, "engine_unavailable", "5")
    assert [pod.prompts for pod in pods] == [[], []]


def test_a_full_queue_of_one_model_holds_no_request_of_another(proxy: Proxy, pods: list[NamedPod], post: Post) -> None:
    first, _ = pods
    first.hold()
    busy: list[Future[Reply]] = [post(proxy, model=FIRST) for _ in range(30)]
    eventually(lambda: (first.running, waiting(proxy, "generate")) == (1, 29))
    for _ in range(20):
        started = time.monotonic()
        assert pod_of(post(proxy, model=ENCODED).result()) == "other"
        assert time.monotonic() - started < 5
    assert (first.running, waiting(proxy, "generate"), waiting(proxy, QUEUE)) == (1, 29, 0)
    first.release()
    assert {pod_of(reply.result()) for reply in busy} == {"first"}


def test_the_autoscaler_of_each_model_sees_its_own_work(proxy: Proxy, pods: list[NamedPod], post: Post) -> None:
    for pod in pods:
        pod.hold()
    replies = [post(proxy, model=FIRST), *(post(proxy, model=ENCODED) for _ in range(3))]
    eventually(lambda: (proxy.metric(work_of("generate")), proxy.metric(work_of(QUEUE))) == (1, 3))
    for pod in pods:
        pod.release()
    assert [pod_of(reply.result()) for reply in replies] == ["first", "other", "other", "other"]


def test_one_model_may_have_no_pods_while_another_must(run: Run, pods: list[NamedPod], post: Post) -> None:
    none = ServedModel(model=SERVED.model, slots=1, min_replicas=0)
    proxy = start(run, pods[:1], [], more_models=(none,), queue_timeout=2)
    held = post(proxy, model=ENCODED)
    eventually(lambda: proxy.metric(work_of(QUEUE)) == 1)  # so that the autoscaler starts one
    assert pod_of(post(proxy, model=FIRST).result()) == "first"
    assert (held.result().status, code(held.result())) == (503, "engine_unavailable")


def test_a_model_that_must_have_pods_refuses_at_once_while_another_may_wait(run: Run, pods: list[NamedPod]) -> None:
    none = ServedModel(model=SERVED.model, slots=1, min_replicas=0)
    proxy = start(run, [], pods[1:], more_models=(none,), queue_timeout=20)
    started = time.monotonic()
    assert code(fetch(f"{proxy.url}/engine/chat", chat(), {MODEL_NAME: FIRST})) == "engine_unavailable"
    assert time.monotonic() - started < 10
    assert pod_of(fetch(f"{proxy.url}/engine/chat", chat(), {MODEL_NAME: ENCODED})) == "other"


def test_what_a_key_has_at_one_model_does_not_count_at_another(proxy: Proxy, pods: list[NamedPod], post: Post) -> None:
    other = pods[1]
    learn_what_a_place_costs(proxy, other, post)
    for pod in pods:
        pod.hold()
    replies = [post(proxy, model=FIRST, key="greedy") for _ in range(6)]
    replies.append(post(proxy, "slot", model=ENCODED))
    eventually(lambda: (waiting(proxy, "generate"), other.running) == (5, 1))
    for place, key in enumerate(("greedy", "modest"), 1):
        replies.append(post(proxy, key, model=ENCODED, key=key))
        eventually(partial(has_waiting, proxy, place))
    for pod in pods:
        pod.release()
    assert {pod_of(reply.result()) for reply in replies} == {"first", "other"}
    assert other.prompts[-3:] == ["slot", "greedy", "modest"]  # as they came


def has_waiting(proxy: Proxy, places: int) -> bool:
    return waiting(proxy, QUEUE) == places


def learn_what_a_place_costs(proxy: Proxy, other: NamedPod, post: Post) -> None:
    """Have requests wait for a second, by which HAProxy tells how far one key's are put behind another's."""
    other.hold()
    replies = [post(proxy, model=ENCODED) for _ in range(3)]
    eventually(lambda: has_waiting(proxy, 2))
    time.sleep(1)  # what is measured
    other.release()
    assert {pod_of(reply.result()) for reply in replies} == {"other"}
