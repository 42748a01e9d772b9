"""Fronts, HAProxy and pods of two models together, of which one is asked for ten times what it can do."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from cdk8s_manifests.haproxy_cfg import haproxy_cfg
from config import LOCAL, Autoscaling, Model, ServedModel
from testbed.fetching import fetch
from testbed.gateway import Served, serve
from testbed.haproxy import fronted
from testbed.stand_in.timed import Timed
from testbed.waiting import eventually
from tests.support.needs import RunDocker

SLOTS, SHARE = 2, 10  # of a pod, and of a front's places for each model
SECONDS, FOREVER = 0.05, 200  # of an answer
BUSY, IDLE = (Model(name=name, weights_mib=1, kv_kib_per_token=0) for name in ("busy", "idle"))
STAGE = replace(
    LOCAL,
    autoscaling=Autoscaling.REQUESTS,
    model=BUSY,
    aliases=("gpt-4o-mini",),
    slots=SLOTS,
    requests_per_replica=1,
    min_replicas=1,
    max_replicas=1,
    more_models=(ServedModel(model=IDLE, aliases=("quiet",)),),
    max_in_flight=2 * SHARE,
    queue_timeout=FOREVER,
    generation_timeout=FOREVER,
    proxy_timeout=2 * FOREVER + 1,
    idle_timeout=3 * FOREVER + 2,
    client_timeout=4 * FOREVER,
    grace_period=3 * FOREVER,
)
DEADLINES = {"queue_timeout": FOREVER, "generation_timeout": FOREVER}


@pytest.fixture
def front(docker: RunDocker, tmp_path: Path) -> Iterator[Served]:
    """Return a front before HAProxy and a pod of each model."""
    with ExitStack() as stack:

        def pod(name: str) -> Served:
            engine = Timed(slots=SLOTS, seconds=SECONDS, variation=0).start()
            stack.callback(engine.stop)
            settings = {"role": "back", "model": name, "slots": SLOTS, **DEADLINES}
            return stack.enter_context(serve(engine.url, tmp_path / name, **settings))

        settings = {"model": "busy idle", "aliases": "gpt-4o-mini=busy quiet=idle", "max_in_flight": 2 * SHARE}
        settings |= DEADLINES
        busy, idle = pod("busy"), pod("idle")
        both = fronted(haproxy_cfg(STAGE), tmp_path, {"pods": [busy], "pods-idle": [idle]}, **settings)
        yield stack.enter_context(both)[0]


@pytest.mark.parametrize(
    ("named", "model"), [("busy", "busy"), ("gpt-4o-mini", "busy"), ("quiet", "idle"), (None, "busy")]
)
def test_a_request_is_answered_by_the_pods_of_the_model_that_it_names(front: Served, named: str, model: str) -> None:
    body = {"prompt": "Hi"} | ({"model": named} if named else {})
    reply = fetch(f"{front.url}/generate", body)
    assert (reply.status, reply.json()["model"]) == (200, model)


def test_a_model_that_is_not_served_is_a_404_with_those_that_are(front: Served) -> None:
    reply = fetch(f"{front.url}/generate", {"prompt": "Hi", "model": "llava"})
    assert reply.status == 404
    assert "busy (also as gpt-4o-mini) and idle (also as quiet)" in reply.json()["error"]["message"]


def test_a_model_that_is_asked_for_ten_times_what_it_can_do_takes_nothing_from_another(front: Served) -> None:
    busy = {"model": "busy", "prompt": f"Hi [seconds {FOREVER}]"}
    for _ in range(10 * SHARE):
        front.connect("/generate", busy)
    eventually(lambda: front.metric('sluice_requests_refused_total{model="busy"}') == 9 * SHARE, 60)
    for number in range(20):
        reply = fetch(f"{front.url}/generate", {"model": "idle", "prompt": f"number {number}"})
        assert reply.status == 200
        assert reply.json()["timings"]["queued_ms"] < 1000
    assert front.metric('sluice_requests_in_flight{model="busy"}') == SHARE
    assert front.metric('sluice_requests_refused_total{model="idle"}') == 0
