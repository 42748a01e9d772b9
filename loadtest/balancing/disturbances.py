"""What goes wrong on purpose while requests run: HAProxies are killed, pods come and go."""

import asyncio
import json
import subprocess
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cdk8s_manifests.names import GATEWAY, PROXY, STATUS_PORT
from launcher.console import say
from loadtest.balancing.idle import Span
from loadtest.cluster import total
from loadtest.on_cluster.deploy import ready
from local_cluster.kubectl import environ, kubectl, pods

Event = tuple[float, str]  # seconds since 1970, and what was done


async def kill_proxies(namespace: str, *, seconds: float, events: list[Event]) -> None:
    """Kill a HAProxy at each quarter of the time, unannounced: one without the queue, then its holder twice."""
    for holder in (False, True, True):
        await asyncio.sleep(seconds / 4)
        name = await asyncio.to_thread(find_proxy, namespace, holder=holder)
        what = "the HAProxy that holds the queue" if holder else "a HAProxy that doesn't hold the queue"
        _note(events, namespace, f"killed {what}")
        await asyncio.to_thread(
            kubectl, "delete", "pod", name, "--namespace", namespace, "--force", "--grace-period=0", "--wait=false"
        )


def find_proxy(namespace: str, *, holder: bool) -> str:
    """Return the name of the HAProxy through whose queue most requests went, or of the other one."""
    names = [pod["metadata"]["name"] for pod in ready(namespace, PROXY)]
    ordered: list[str] = sorted(names, key=lambda name: _passed(namespace, name))
    return ordered[-1 if holder else 0]


def _passed(namespace: str, name: str) -> tuple[int, int]:
    """Return how many requests are in a HAProxy's queue or behind it, and how many were before."""
    path = f"/api/v1/namespaces/{namespace}/pods/{name}:{STATUS_PORT}/proxy/metrics"
    text = kubectl("get", "--raw", path)
    return total(text, "haproxy_backend_current_sessions"), total(text, "haproxy_backend_http_requests_total")


@dataclass
class Churn:
    """Pods that come and go: when each was there to work, and what the engines of those that went wrote."""

    namespace: str
    events: list[Event]
    since: dict[str, float] = field(default_factory=dict)
    until: dict[str, float] = field(default_factory=dict)
    _logs: list[subprocess.Popen[str]] = field(default_factory=list)

    async def run(self, *, replicas: int, seconds: float) -> None:
        """Delete a pod, add two, delete one, take two away, and once more, at even distances; each ends gently."""
        kubectl("delete", "horizontalpodautoscaler", GATEWAY, "--namespace", self.namespace)
        steps = 2 * (None, replicas + 2, None, replicas)
        for wanted in steps:
            await asyncio.sleep(seconds / (len(steps) + 1))
            await asyncio.to_thread(self._step, wanted)

    def _step(self, wanted: int | None) -> None:
        self.look()
        if wanted is None:
            name = ready(self.namespace, GATEWAY)[0]["metadata"]["name"]
            _note(self.events, self.namespace, "deleted the oldest pod")
            kubectl("delete", "pod", name, "--namespace", self.namespace, "--wait=false")
        else:
            _note(self.events, self.namespace, f"scaled to {wanted} pods")
            kubectl("scale", f"deployment/{GATEWAY}", f"--replicas={wanted}", "--namespace", self.namespace)
        time.sleep(1)
        self.look()

    def look(self) -> None:
        """Note which pods are ready, and which have been told to end, whose logs are then followed."""
        for pod in ready(self.namespace, GATEWAY):
            condition = next(each for each in pod["status"]["conditions"] if each["type"] == "Ready")
            self.since.setdefault(pod["metadata"]["name"], _seconds(condition["lastTransitionTime"]))
        there = {pod["metadata"]["name"] for pod in pods(self.namespace, GATEWAY)}
        for name in self.since.keys() - there - self.until.keys():
            self.until[name] = time.time()
            command = ["kubectl", "logs", "--follow", "--namespace", self.namespace, name, "--container", "ollama"]
            self._logs.append(subprocess.Popen(command, env=environ(), stdout=subprocess.PIPE, text=True))

    def lines(self) -> list[dict[str, Any]]:
        """Return what the engines of pods that went wrote, once they have ended."""
        return [json.loads(line) for log in self._logs for line in log.communicate()[0].splitlines()]

    def present(self, end: float) -> dict[str, Span]:
        """Return when each pod was there to work, by its name; end: of the run."""
        return {name: Span(start, self.until.get(name, end)) for name, start in self.since.items()}


def _note(events: list[Event], namespace: str, what: str) -> None:
    say(f"{namespace}: {what}")
    events.append((time.time(), what))


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
