"""A stage with a model that chats and one that embeds, delivered by a real Argo CD."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from config import LOCAL, Model, ServedModel
from cost.bill import Usage, parse
from local_cluster.demo import MISSING_IMAGE
from local_cluster.kubectl import eventually, kubectl
from testbed.fetching import fetch
from tests.e2e import images
from tests.e2e.delivered import Delivered
from tests.e2e.streams import Streams

CHAT, EMBEDDING = LOCAL.model.name, Model(name=images.EMBEDDING, weights_mib=46, kv_kib_per_token=0)
EMBEDS = ServedModel(
    model=EMBEDDING,
    aliases=("text-embedding-3-small",),
    slots=2,
    prompt_cache_mib=0,
    min_replicas=1,
    max_replicas=1,
    requests_per_replica=1,
)
STAGE = replace(
    LOCAL,
    name="models-test",
    namespace="sluice-test-models",
    aliases=("gpt-4o-mini",),
    more_models=(EMBEDS,),
    min_replicas=1,
    max_replicas=2,
    start_timeout=45,
)
EMBEDS_COMPONENT = f"sluice-{images.EMBEDDING}"
SHORT = {"prompt": "Name three colors.", "max_tokens": 12}
TEXTS = {"model": "text-embedding-3-small", "input": ["a cat", "a dog", "the stock market"]}


@pytest.fixture(scope="module")
def delivered() -> Iterator[Delivered]:
    """Return the stage with a release that has passed its smoke."""
    with ExitStack() as stack:
        delivered = Delivered(STAGE, stack)
        assert delivered.work(release(delivered)) is None
        yield delivered


def release(delivered: Delivered, **changes: Any) -> str:
    """Publish; the weights are the good ones unless `changes` has others."""
    return delivered.release(**{"more_weights": {EMBEDDING.name: images.embedding_weights()}, **changes})


def post(delivered: Delivered, path: str, body: dict[str, Any]) -> Any:
    reply = fetch(f"http://{delivered.host}{path}", body)
    assert reply.status == 200, reply.body
    return reply.json()


def names(delivered: Delivered, component: str) -> set[str]:
    """Return the names of a component's pods."""
    return {pod["metadata"]["name"] for pod in delivered.pods(component)}


def test_each_request_goes_to_the_model_that_it_names(delivered: Delivered) -> None:
    said = post(
        delivered, "/v1/chat/completions", {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
    )
    assert (said["model"], bool(said["choices"][0]["message"]["content"])) == (CHAT, True)
    embedded = post(delivered, "/v1/embeddings", TEXTS)
    cat, dog, market = (each["embedding"] for each in embedded["data"])
    assert embedded["model"] == EMBEDDING.name
    assert sum(a * b for a, b in zip(cat, dog, strict=True)) > sum(a * b for a, b in zip(cat, market, strict=True))
    listed = fetch(f"http://{delivered.host}/v1/models").json()
    assert {each["id"] for each in listed["data"]} >= {CHAT, EMBEDDING.name}
    unknown = fetch(f"http://{delivered.host}/v1/embeddings", TEXTS | {"model": "llava"})
    assert unknown.status == 404
    assert all(name in unknown.json()["error"]["message"] for name in (CHAT, EMBEDDING.name, "text-embedding-3-small"))


def test_each_model_has_pods_of_its_own_and_only_the_busy_one_gets_more(delivered: Delivered) -> None:
    before = names(delivered, EMBEDS_COMPONENT)
    with Streams(delivered.host, SHORT | {"max_tokens": 200}).running(4) as streams:
        eventually(lambda: len(delivered.pods()) == 2, 240)
    assert streams.lost == 0, streams.trouble
    assert names(delivered, EMBEDS_COMPONENT) == before


def test_a_change_of_one_models_weights_rolls_its_pods_alone(delivered: Delivered) -> None:
    before = {component: names(delivered, component) for component in ("sluice", EMBEDS_COMPONENT, "proxy")}
    with Streams(delivered.host, SHORT).running(1) as streams:
        weights = images.embedding_weights(changed=True)
        assert delivered.work(release(delivered, more_weights={EMBEDDING.name: weights})) is None
        eventually(lambda: not names(delivered, EMBEDS_COMPONENT) & before[EMBEDS_COMPONENT], 60)
        post(delivered, "/v1/embeddings", TEXTS)
    assert streams.lost == 0, streams.trouble
    assert names(delivered, "proxy") == before["proxy"]
    assert names(delivered, "sluice") & before["sluice"]  # the autoscaler may have taken one


def test_a_bad_model_is_taken_back_while_the_other_goes_on(delivered: Delivered) -> None:
    started = time.monotonic()
    with Streams(delivered.host, SHORT).running(1) as streams:
        good = delivered.work(release(delivered, more_weights={EMBEDDING.name: MISSING_IMAGE}))
        assert good
        assert delivered.notice(good) == "sluice-synced"
    print(f"taken back after {time.monotonic() - started:.0f} s")
    assert streams.lost == 0, streams.trouble
    post(delivered, "/v1/embeddings", TEXTS)


def test_the_bill_has_what_each_model_did_and_all_of_its_slots(delivered: Delivered) -> None:
    post(delivered, "/generate", SHORT)
    post(delivered, "/v1/embeddings", TEXTS)

    def usage() -> Usage | None:
        """Return what the pods have logged, once each has written its capacity, which it does once a minute."""
        found = Usage()
        for component in ("sluice", EMBEDS_COMPONENT):
            select = [
                "--selector",
                f"app.kubernetes.io/component={component}",
                "--container",
                "gateway",
                "--tail",
                "-1",
            ]
            for line in filter(None, map(parse, kubectl("--namespace", STAGE.namespace, "logs", *select).splitlines())):
                found.add(line)
        return found if len(found.pod_seconds) == 2 else None

    found = eventually(usage, 150)
    assert set(found.pod_seconds) == {CHAT, EMBEDDING.name} == {model for _, model in found.uses}
    assert all(use.prompt_tokens and use.slot_seconds for use in found.uses.values())
    for model, slots in ((CHAT, STAGE.slots), (EMBEDDING.name, 2)):
        assert found.slot_seconds[model] == pytest.approx(slots * found.pod_seconds[model])
