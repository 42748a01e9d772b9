"""What a cluster does while a block runs: replicas, pods and queue once a second, and each pod's engine log.

It asks the API server through one `kubectl proxy`, for a kubectl a second would take a core of its own.
"""

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.request import urlopen

from cdk8s_manifests.names import GATEWAY, PROXY, STATUS_PORT
from loadtest.cluster import total
from local_cluster.kubectl import ClusterError, environ, is_ready

EVERY = 1.0  # seconds
TIMEOUT = 5.0


@dataclass(frozen=True)
class Sample:
    """One look. `at` in seconds since 1970; wanted: by the autoscaler; pods: those that exist, ending ones too."""

    at: float
    wanted: int
    pods: int
    ready: int
    queued: int
    in_flight: int


@dataclass
class Pod:
    """A gateway's pod, with when it was first seen so, in seconds since 1970; None while it hasn't been."""

    created: float
    ready: float | None = None
    ending: float | None = None
    gone: float | None = None


class Observer:
    """The samples, the pods by name, and the lines of their engines, as far as they have come."""

    def __init__(self, namespace: str, base: str) -> None:
        self.samples: list[Sample] = []
        self.pods: dict[str, Pod] = {}
        self.lines: list[dict[str, Any]] = []
        self._namespace, self._base, self._ended = namespace, base, threading.Event()
        self._followed: set[str] = set()

    def run(self) -> None:
        """Look until stop(); a look that fails is left out."""
        while not self._ended.is_set():
            started = time.monotonic()
            with suppress(OSError, HTTPException, ValueError):
                self.look()
            self._ended.wait(max(0, EVERY - (time.monotonic() - started)))

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()

    def look(self) -> None:
        """Add a sample, and what is new of the pods."""
        at = time.time()
        deployment = self._get(f"/apis/apps/v1/namespaces/{self._namespace}/deployments/{GATEWAY}")
        found = {pod["metadata"]["name"]: pod for pod in self._pods(GATEWAY)}
        for name, pod in found.items():
            self._take(name, pod, at)
        for name, seen in self.pods.items():
            if name not in found and seen.gone is None:
                seen.gone = at
        pages = [self._metrics(pod["metadata"]["name"]) for pod in self._pods(PROXY) if is_ready(pod)]
        queued, sessions = (
            sum(total(page, f"haproxy_backend_current_{of}") for page in pages) for of in ("queue", "sessions")
        )
        ready = sum(is_ready(pod) for pod in found.values())
        wanted = deployment["spec"]["replicas"]
        self.samples.append(Sample(at, wanted, len(found), ready, queued, sessions - queued))

    def _take(self, name: str, pod: dict[str, Any], at: float) -> None:
        seen = self.pods.setdefault(name, Pod(created=at))
        if is_ready(pod) and seen.ready is None:
            seen.ready = at
        if "deletionTimestamp" in pod["metadata"] and seen.ending is None:
            seen.ending = at
        statuses = pod["status"].get("initContainerStatuses", [])
        if name not in self._followed and any("running" in each["state"] for each in statuses):
            self._followed.add(name)
            threading.Thread(target=self._follow, args=[name], daemon=True).start()

    def _follow(self, pod: str) -> None:
        """Take in the engine's lines until the pod is gone."""
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod}/log?container=ollama&follow=true"
        with suppress(OSError, HTTPException), urlopen(self._base + path) as log:  # noqa: S310
            for line in log:
                self.lines.append(json.loads(line))

    def _pods(self, component: str) -> list[dict[str, Any]]:
        selector = f"labelSelector=app.kubernetes.io%2Fcomponent%3D{component}"
        items: list[dict[str, Any]] = self._get(f"/api/v1/namespaces/{self._namespace}/pods?{selector}")["items"]
        return items

    def _metrics(self, pod: str) -> str:
        return self._read(f"/api/v1/namespaces/{self._namespace}/pods/{pod}:{STATUS_PORT}/proxy/metrics")

    def _get(self, path: str) -> Any:
        return json.loads(self._read(path))

    def _read(self, path: str) -> str:
        with urlopen(self._base + path, timeout=TIMEOUT) as reply:  # noqa: S310
            text: str = reply.read().decode()
            return text


@contextmanager
def observing(namespace: str) -> Iterator[Observer]:
    """Observe a namespace while the block runs."""
    command = ["kubectl", "proxy", "--port=0"]
    with subprocess.Popen(command, env=environ(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as proxy:
        line = proxy.stdout.readline() if proxy.stdout else ""
        found = re.search(r"127\.0\.0\.1:\d+", line)
        if not found:
            raise ClusterError(f"kubectl proxy: {line.strip() or 'it said nothing'}")
        observer = Observer(namespace, f"http://{found.group()}")
        observer.look()
        thread = threading.Thread(target=observer.run)
        thread.start()
        try:
            yield observer
        finally:
            observer.stop()
            thread.join()
            proxy.terminate()
