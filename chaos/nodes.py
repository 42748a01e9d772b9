"""The processes of the local cluster's one node, which run on this machine: found by container or by name, and broken.

A container's first process can't be killed from inside it, so the kernel that runs all of them is asked.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from launcher.console import Problem
from local_cluster.kubectl import environ, kubectl, pods


def container_processes(pod: Any, container: str) -> list[psutil.Process]:
    """Return the processes of a pod's container, the first one first. Raises Problem."""
    statuses = [*pod["status"].get("containerStatuses", []), *pod["status"].get("initContainerStatuses", [])]
    ids = [each["containerID"].rpartition("/")[2] for each in statuses if each["name"] == container]
    found = [process for process in psutil.process_iter() if ids and _in_group(process, ids[0])]
    if not found:
        raise Problem(f"no process of {container} on this machine")
    return sorted(found, key=lambda process: process.pid)


def _in_group(process: psutil.Process, container: str) -> bool:
    with suppress(OSError):
        return container in Path(f"/proc/{process.pid}/cgroup").read_text()
    return False


def kill_container(pod: Any, container: str) -> None:
    """Kill every process of a container."""
    for process in container_processes(pod, container):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def kill_sandbox(pod: Any) -> None:
    """Kill what holds a pod together on its node: the process that owns its network, and the containers' parent."""
    parent = container_processes(pod, pod["spec"]["containers"][0]["name"])[0].parent()
    if parent is None:
        raise Problem("the container has no parent")
    for child in parent.children():
        if "pause" in " ".join(child.cmdline()):
            child.kill()
    parent.kill()


@contextmanager
def frozen(name: str) -> Iterator[None]:
    """Have a part of the cluster stand still until the block ends: its connections stay open, nothing answers."""
    file = Path(environ()["state"]) / "run" / f"{name}.pid"
    if not file.exists():
        raise Problem(f"the cluster has no process {name} of its own: {file}")
    process = psutil.Process(int(file.read_text()))
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@contextmanager
def scaled_to_nothing(namespace: str, workload: str) -> Iterator[None]:
    """Have no pod of a workload until the block ends."""
    if not kubectl("get", workload, "--namespace", namespace, "--ignore-not-found"):
        raise Problem(f"there is no {workload} in {namespace}")
    scale = ("scale", workload, "--namespace", namespace)
    kubectl(*scale, "--replicas=0")
    try:
        yield
    finally:
        kubectl(*scale, "--replicas=1")


def pod_of(namespace: str, component: str, number: int = 0) -> Any:
    """Return a component's pod. Raises Problem."""
    found = pods(namespace, component)
    if len(found) <= number:
        raise Problem(f"{component} has no pod {number}")
    return found[number]
