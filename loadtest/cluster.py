"""Replicas and queue over time, as Kubernetes and HAProxy say, read through `kubectl`."""

import asyncio
import json
import re
import time
from asyncio.subprocess import PIPE
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cdk8s_manifests.names import GATEWAY, PROXY, STATUS_PORT
from loadtest.k6 import CannotRun

EVERY = 5.0  # seconds


@dataclass(frozen=True)
class Sample:
    """One look. `at` in seconds since the epoch; queued and in_flight of all proxies together.

    memory_mib: of each kind of container the one that uses most; empty where there is no metrics-server.
    """

    at: float
    replicas: int
    ready: int
    queued: int
    in_flight: int
    memory_mib: dict[str, float]


async def look(namespace: str) -> Sample:
    """Return how many pods there are and what they and the queue hold. Raises CannotRun."""
    at = time.time()
    deployment = await _get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{GATEWAY}")
    selector = f"labelSelector=app.kubernetes.io%2Fcomponent%3D{PROXY}"
    proxies = await _get(f"/api/v1/namespaces/{namespace}/pods?{selector}")
    status = json.loads(deployment)["status"]
    names = [pod["metadata"]["name"] for pod in json.loads(proxies)["items"] if _runs(pod)]
    base = f"/api/v1/namespaces/{namespace}/pods"
    pages = await asyncio.gather(
        *(_get(f"{base}/{name}:{STATUS_PORT}/proxy/metrics") for name in names), return_exceptions=True
    )
    memory = await _memory(namespace)
    texts = [page for page in pages if isinstance(page, str)]  # a proxy that stops meanwhile holds nothing
    queued = sum(total(text, "haproxy_backend_current_queue") for text in texts)
    in_flight = sum(total(text, "haproxy_server_current_sessions") for text in texts)
    return Sample(at, status.get("replicas", 0), status.get("readyReplicas", 0), queued, in_flight, memory)


async def watch(namespace: str, samples: list[Sample], every: float = EVERY) -> None:
    """Add a sample every so many seconds until cancelled; a look that fails is left out."""
    while True:
        with suppress(CannotRun):
            samples.append(await look(namespace))
        await asyncio.sleep(every)


def total(metrics: str, name: str) -> int:
    """Return the sum of a metric of HAProxy over what belongs to the backend `generate`."""
    found = re.findall(rf'^{name}\{{[^}}]*proxy="generate"[^}}]*\}} (\S+)$', metrics, re.MULTILINE)
    return round(sum(map(float, found)))


async def _memory(namespace: str) -> dict[str, float]:
    try:
        pods = json.loads(await _get(f"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods"))["items"]
    except CannotRun:
        return {}
    most: dict[str, float] = {}
    for container in (each for pod in pods for each in pod["containers"]):
        mib = _mib(container["usage"]["memory"])
        most[container["name"]] = max(mib, most.get(container["name"], 0))
    return most


def _mib(quantity: str) -> float:
    """Return a Kubernetes quantity of memory, such as 44032Ki, 43Mi or plain bytes, in MiB."""
    number, unit = quantity.rstrip("KMGi"), quantity.lstrip("0123456789")
    return round(int(number) * {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}[unit] / 2**20, 1)


def _runs(pod: dict[str, Any]) -> bool:
    return bool(pod["status"].get("phase") == "Running")


async def _get(path: str) -> str:
    try:
        process = await asyncio.create_subprocess_exec("kubectl", "get", "--raw", path, stdout=PIPE, stderr=PIPE)
    except FileNotFoundError:
        raise CannotRun("--namespace needs kubectl: it is missing") from None
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:  # the run is over
            process.kill()
            await process.wait()
    if process.returncode:
        raise CannotRun(f"kubectl get --raw {path}: {err.decode().strip()}")
    return out.decode()
