import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cdk8s_manifests.__main__ import write
from cdk8s_manifests.main import render
from cdk8s_manifests.names import GATEWAY_PRIVATE_PORT, STATUS_PORT
from config import LOCAL
from local_cluster.kubectl import ClusterError, allow_this_machine, eventually, is_ready, kubectl, pods
from testbed.fetching import fetch, metric
from tests.e2e import images
from tests.e2e.cluster import need_cluster
from tests.e2e.streams import Streams

# Two pods: what is tested is how they are replaced.
STAGE = replace(LOCAL, namespace="sluice-test-manifests", min_replicas=2, max_replicas=2)
RESTRICTED = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
ENOUGH = int(os.environ.get("REQUESTS", "60"))  # of each of the six tests under load: 170 are a thousand together
SHORT = {"prompt": "Name three colors.", "max_tokens": 12}


class Deployed:
    """The stage on the cluster."""

    def __init__(self, folder: Path) -> None:
        files = render(STAGE, image=images.gateway(), weights={STAGE.model.name: images.weights()}, context=None)
        write(files, folder)
        # kubectl writes Pod Security's warnings to stderr; here they are errors.
        self.kubectl("apply", "--server-side", "--warnings-as-errors", "--filename", str(folder))
        eventually(lambda: len(self.ready("sluice")) == 2, 300)
        eventually(lambda: len(self.ready("proxy")) == 2, 60)
        self.host = self.kubectl("get", "service", "sluice", "--output", "jsonpath={.spec.clusterIP}")
        eventually(lambda: fetch(f"http://{self.host}/v1/models").status == 200, 30)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return kubectl("--namespace", STAGE.namespace, *arguments, stdin=stdin)

    def pods(self, component: str) -> list[Any]:
        """Return the pods of a component that aren't about to end, the oldest first."""
        return pods(STAGE.namespace, component)

    def ready(self, component: str) -> list[Any]:
        """Return those that are ready."""
        return [pod for pod in self.pods(component) if is_ready(pod)]

    def replaced(self, component: str, before: list[Any]) -> bool:
        """Say whether there are two ready pods, none of which was there before."""
        gone = {pod["metadata"]["name"] for pod in before}
        return len({pod["metadata"]["name"] for pod in self.ready(component)} - gone) == 2

    def restart(self, component: str) -> None:
        """Replace every pod as a new release does."""
        before = self.pods(component)
        self.kubectl("rollout", "restart", f"deployment/{component}")
        eventually(lambda: self.replaced(component, before), 300)

    def evict(self, pod: Any) -> None:
        """Do what `kubectl drain` does, as soon as the disruption budget lets it."""
        name = pod["metadata"]["name"]
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        path = f"/api/v1/namespaces/{STAGE.namespace}/pods/{name}/eviction"
        eventually(lambda: self._post(path, json.dumps(eviction)), 120)

    def _post(self, path: str, body: str) -> bool:
        try:
            self.kubectl("create", "--raw", path, "--filename", "-", stdin=body)
        except ClusterError as error:
            assert "disruption budget" in str(error)
            return False
        return True


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    need_cluster()
    images.proxy()
    kubectl("delete", "namespace", STAGE.namespace, "--ignore-not-found")  # of a run that was cut off
    kubectl("create", "namespace", STAGE.namespace)
    try:
        kubectl("label", "namespace", STAGE.namespace, *RESTRICTED)
        allow_this_machine(STAGE.namespace, "sluice-test")
        yield Deployed(tmp_path_factory.mktemp("manifests"))
    finally:
        kubectl("delete", "namespace", STAGE.namespace, "--wait=false")


def test_a_request_through_the_service_gets_an_answer_from_the_model(deployed: Deployed) -> None:
    reply = fetch(f"http://{deployed.host}/generate", {"prompt": "What is 2 + 2?", "temperature": 0})
    assert reply.status == 200
    assert reply.json()["model"] == STAGE.model.name
    assert "4" in reply.json()["response"]


def test_no_container_was_restarted_or_refused_anything_by_pod_security(deployed: Deployed) -> None:
    for component in ("sluice", "proxy"):
        for pod in deployed.pods(component):
            statuses = pod["status"].get("initContainerStatuses", []) + pod["status"]["containerStatuses"]
            assert [status["restartCount"] for status in statuses] == [0] * len(statuses)
    events = deployed.kubectl("get", "events", "--output", "jsonpath={.items[*].message}")
    assert "PodSecurity" not in events


def test_the_model_is_loaded_once_by_the_startup_probe(deployed: Deployed) -> None:
    assert fetch(f"http://{deployed.host}/generate", SHORT).status == 200
    for pod in deployed.ready("sluice"):
        log = deployed.kubectl("logs", pod["metadata"]["name"], "--container", "ollama")
        assert log.count('msg="starting llama-server"') == 1


def test_every_proxy_sends_what_generates_to_the_same_one(deployed: Deployed) -> None:
    with Streams(deployed.host, SHORT).running(8) as streams:
        eventually(lambda: streams.outcomes.total() >= 30, 120)
    assert streams.lost == 0
    addresses = [pod["status"]["podIP"] for pod in deployed.ready("proxy")]
    sent = [
        metric(f"http://{address}:{STATUS_PORT}/metrics", f'haproxy_backend_http_requests_total{{proxy="{backend}"}}')
        for backend in ("holder", "generate")
        for address in addresses
    ]
    assert min(sent[:2]) > 0  # both have clients
    assert min(sent[2:]) == 0  # one has the queue
    assert sum(sent[:2]) == sum(sent[2:])


def test_a_pod_that_crashes_is_passed_over(deployed: Deployed) -> None:
    [pod, _] = deployed.ready("sluice")
    name = pod["metadata"]["name"]
    kill = ["python", "-c", "import os, signal; os.kill(1, signal.SIGTERM)"]
    deployed.kubectl("exec", name, "--container", "ollama", "--", *kill)
    for _ in range(10):
        assert fetch(f"http://{deployed.host}/generate", SHORT).status == 200
    eventually(lambda: len(deployed.ready("sluice")) == 2, 120)


def test_slow_uploads_take_no_slot(deployed: Deployed) -> None:
    head = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n"
    slow = [socket.create_connection((deployed.host, 80), timeout=10) for _ in range(16)]
    try:
        for sock in slow:
            sock.sendall(head + b" " * 40_000)  # more than HAProxy buffers
        for _ in range(4):
            for sock in slow:
                sock.sendall(b" ")
            assert fetch(f"http://{deployed.host}/generate", SHORT).status == 200
    finally:
        for sock in slow:
            sock.close()


@contextmanager
def load(deployed: Deployed) -> Iterator[None]:
    """Stream answers while the block changes something; all must be complete, those after the change too."""
    with Streams(deployed.host, SHORT).running(6) as streams:
        eventually(lambda: streams.outcomes.total() >= 6, 120)
        yield
        enough = max(ENOUGH, streams.outcomes.total() + 12)
        eventually(lambda: streams.outcomes.total() >= enough, 240)
    print(f"{streams.outcomes.total()} requests, {streams.lost} lost")
    assert streams.lost == 0, streams.trouble


components = pytest.mark.parametrize("component", ["sluice", "proxy"])


@components
def test_a_rolling_update_loses_nothing(deployed: Deployed, component: str) -> None:
    with load(deployed):
        deployed.restart(component)


@components
def test_a_deleted_pod_loses_nothing(deployed: Deployed, component: str) -> None:
    with load(deployed):
        [oldest, _] = deployed.ready(component)
        deployed.kubectl("delete", "pod", oldest["metadata"]["name"], "--wait=false")
        eventually(lambda: len(deployed.ready(component)) == 2, 120)


@components
def test_a_node_that_is_drained_loses_nothing(deployed: Deployed, component: str) -> None:
    with load(deployed):
        before = deployed.ready(component)
        for pod in before:
            deployed.evict(pod)
        eventually(lambda: deployed.replaced(component, before), 120)


def test_metrics_and_probes_answer_in_the_pod(deployed: Deployed) -> None:
    for pod in deployed.ready("sluice"):
        address = pod["status"]["podIP"]
        assert metric(f"http://{address}:{GATEWAY_PRIVATE_PORT}/metrics", "sluice_slots") == STAGE.slots
        with pytest.raises(OSError):
            fetch(f"http://{address}:11434/api/ps")


def test_a_pod_can_answer_soon_once_its_images_are_there(deployed: Deployed) -> None:
    before = {pod["metadata"]["name"] for pod in deployed.ready("sluice")}
    deployed.kubectl("delete", "pod", min(before), "--wait=false")
    started = time.monotonic()
    eventually(
        lambda: any(answers(pod) for pod in deployed.pods("sluice") if pod["metadata"]["name"] not in before), 60
    )
    print(f"can answer after {time.monotonic() - started:.1f} s")
    eventually(lambda: len(deployed.ready("sluice")) == 2, 60)
    print(f"counts as ready after {time.monotonic() - started:.1f} s")


def answers(pod: Any) -> bool:
    """Say whether HAProxy, once it knows a pod, would send it requests."""
    try:
        return fetch(f"http://{pod['status']['podIP']}:{GATEWAY_PRIVATE_PORT}/readyz", timeout=1).status == 200
    except (KeyError, OSError):
        return False
