"""The delivery loop on a real Argo CD: a release that is bad is taken back, and nobody's request is lost meanwhile."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from cdk8s_manifests.names import GATEWAY_PRIVATE_PORT
from config import LOCAL, MOONDREAM
from context import Context
from delivery.doctor import after
from delivery.doctor.__main__ import results
from delivery.doctor.check import Patient
from local_cluster.images import push
from local_cluster.kubectl import eventually, kubectl, run
from testbed.fetching import fetch, metric
from tests.e2e import images
from tests.e2e.delivered import Delivered
from tests.e2e.streams import Streams
from tests.support.aws import CONTEXT

STAGE = replace(LOCAL, name="loop-test", namespace="sluice-test-loop", start_timeout=45)
SHORT = {"prompt": "Name three colors.", "max_tokens": 12}
# A release that is up, and wrong: only asking it tells.
WRONG = r"""FROM {image}
USER 0
RUN printf '\nright = whole\ndef whole(*of): return right(*of) | {{"response": "I am sure that it is 5."}}\n' \
 >> service/dialects/generate.py \
 && python -c 'import service.dialects.generate'
USER 10001
"""


@pytest.fixture(scope="module")
def delivered() -> Iterator[Delivered]:
    """Return the stage with a release that has passed its smoke."""
    with ExitStack() as stack:
        delivered = Delivered(STAGE, stack)
        assert delivered.work(delivered.release()) is None
        yield delivered


def test_a_release_answers_with_the_real_model(delivered: Delivered) -> None:
    reply = fetch(f"http://{delivered.host}/generate", {"prompt": "What is 2 + 2?", "temperature": 0})
    assert reply.status == 200
    assert "4" in reply.json()["response"]


def test_the_doctor_finds_the_stage_in_order(delivered: Delivered) -> None:
    def kubectl_json(*arguments: str) -> Any:
        return json.loads(kubectl(*arguments, "--output", "json"))

    url = f"http://{delivered.host}"
    patient = Patient(stage=STAGE, context=Context.read(CONTEXT.get), client=no_aws, kubectl=kubectl_json, url=url)
    names = {"cluster", "applications", "pods", "image volume", "answer"}  # the others look at AWS and GitHub
    looked = results(patient, tuple(check for check in after.CHECKS if check.name in names))
    assert {check.name: problems for check, problems in looked} == {name: [] for name in names}


def no_aws(service: str) -> Any:
    raise AssertionError(f"{service} was asked")


def test_more_slots_are_there_a_minute_after_the_merge(delivered: Delivered) -> None:
    started = time.monotonic()
    assert delivered.work(delivered.release(slots=STAGE.slots + 1)) is None
    print(f"merge to the end of the smoke: {time.monotonic() - started:.0f} s")
    addresses = [pod["status"]["podIP"] for pod in delivered.pods()]
    slots = [metric(f"http://{address}:{GATEWAY_PRIVATE_PORT}/metrics", "sluice_slots") for address in addresses]
    assert slots == [STAGE.slots + 1] * STAGE.min_replicas


def wrong_image() -> str:
    """Return the digest of an image whose answers are wrong."""
    name = f"{LOCAL.registry}/sluice/gateway"
    wrong = f"{name}:wrong"
    run("docker", "build", "--tag", wrong, "-", stdin=WRONG.format(image=f"{name}@{images.gateway()}"))
    return push(wrong)


# An image that nobody has pushed: see test_argocd_objects.py.
FAULTS: dict[str, Callable[[], dict[str, Any]]] = {
    "a model that the weights don't have": lambda: {"model": MOONDREAM},
    "wrong answers": lambda: {"image": wrong_image()},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_release_is_taken_back_and_no_request_is_lost(delivered: Delivered, fault: str) -> None:
    changes = FAULTS[fault]()
    with Streams(delivered.host, SHORT).running(1) as streams:
        bad = delivered.release(**changes)
        started = time.monotonic()
        good = delivered.work(bad)
        assert good
        noticed = time.monotonic() - started
        assert delivered.notice(good) == "sluice-synced"
        eventually(lambda: delivered.runs(images.gateway()), 60)
        back = time.monotonic() - started
        print(f"{fault}: taken back after {noticed:.0f} s, every pod is of the good release after {back:.0f} s")
    assert streams.lost == 0, streams.trouble
    assert streams.outcomes["complete"] > 10


def test_github_is_told_of_each_release_once(delivered: Delivered) -> None:
    told = [body["client_payload"]["revision"] for _, _, body in delivered.receiver.posts]
    assert len(told) == len(set(told))
    assert len(told) >= 6


def test_the_branch_says_what_was_taken_back_and_that_release_passes_again(delivered: Delivered) -> None:
    tip = delivered.loop.branch.fetch()
    assert tip
    assert delivered.work(tip) is None
    assert delivered.loop.branch.release(tip).reverts
