"""HAProxy with the rendered configuration, in front of pods on this machine, alone or with a front before it."""

import json
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cdk8s_manifests.haproxy_cfg import FOLDER, LUA
from cdk8s_manifests.names import GATEWAY_PORT, GATEWAY_PRIVATE_PORT, PODS, PROXIES, PROXY_PORT, QUEUE_PORT, STATUS_PORT
from testbed.docker import docker, need_docker
from testbed.fetching import metric, status
from testbed.gateway import Served, serve
from testbed.ports import free_port
from testbed.waiting import eventually

IMAGE = "haproxy:3.0"


class Pod(Protocol):
    """What stands behind HAProxy: a gateway, or a test's own server."""

    @property
    def port(self) -> int:
        """Return the port that takes requests."""

    @property
    def private_port(self) -> int:
        """Return the port that says whether it is ready."""


Pods = Sequence[Pod] | Mapping[str, Sequence[Pod]]  # of one model, or of each by the name of its Service


@dataclass
class Ports:
    """The ports of one HAProxy."""

    clients: int
    queue: int
    status: int

    @classmethod
    def free(cls) -> "Ports":
        """Return ports that nothing listens on at the moment."""
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            return cls(*(each.getsockname()[1] for each in sockets))


@dataclass
class Proxy:
    """A running HAProxy."""

    name: str
    ports: Ports

    @property
    def url(self) -> str:
        """Return the public address."""
        return f"http://127.0.0.1:{self.ports.clients}"

    def status(self, path: str) -> int:
        """Return the status of a probe, 0 where nobody answers."""
        return status(f"http://127.0.0.1:{self.ports.status}{path}")

    def metric(self, name: str) -> float:
        """Return a metric's value, by its name with its labels as /metrics writes them."""
        return metric(f"http://127.0.0.1:{self.ports.status}/metrics", name)

    @property
    def waiting(self) -> float:
        """Return how many requests wait for a pod."""
        return self.metric('haproxy_backend_current_queue{proxy="generate"}')

    def log(self) -> list[dict[str, Any]]:
        """Return the log lines of requests so far."""
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def stop_softly(self) -> None:
        """Do what Kubernetes does first: send the image's stop signal."""
        docker("kill", "--signal", "USR1", self.name)


def check(text: str, folder: Path) -> str:
    """Return what `haproxy -c` says of a configuration: nothing when it is fine."""
    command = ["docker", "run", "--rm", *_mount(text, folder), IMAGE, "haproxy", "-c", "-f", f"{FOLDER}/haproxy.cfg"]
    done = subprocess.run(command, capture_output=True, text=True)
    return f"{done.stdout}{done.stderr}" if done.returncode or done.stderr else ""


@contextmanager
def haproxy(
    text: str,
    folder: Path,
    pods: Pods,
    ports: Ports | None = None,
    holders: Sequence[Ports] = (),
    front: int = 0,
) -> Iterator[Proxy]:
    """Run HAProxy with a configuration in front of `pods` until the block ends; wait until it sees a ready one.

    holders: every proxy's ports, in the same order for each; this one alone by default. front: the private port of
    the front that will stand before it, without which it isn't ready; 0 for none.
    """
    need_docker(IMAGE)
    ports = ports or Ports.free()
    services = pods if isinstance(pods, Mapping) else {PODS: pods}
    text = local(text, ports, services, holders or [ports], front)
    options = ["--detach", "--network", "host", "--read-only", "--cap-drop", "ALL", *_mount(text, folder)]
    name = docker("run", *options, IMAGE, "haproxy", "-db", "-f", f"{FOLDER}/haproxy.cfg")
    try:
        proxy = Proxy(name, ports)
        eventually(lambda: proxy.status("/healthz" if front else "/readyz") == 200)
        yield proxy
    finally:
        docker("rm", "--force", name)


@contextmanager
def fronted(text: str, folder: Path, pods: Pods, **settings: Any) -> Iterator[tuple[Served, Proxy]]:
    """Run HAProxy and a front with these settings before it, as a proxy's pod has them, until the block ends."""
    private = free_port()
    with haproxy(text, folder, pods, front=private) as proxy:
        settings = {"role": "front", "upstream": proxy.url, "private_port": private, **settings}
        with serve("http://127.0.0.1:1", folder / "front.log", **settings) as front:
            eventually(lambda: proxy.status("/readyz") == 200)
            yield front, proxy


def local(text: str, ports: Ports, pods: Mapping[str, Sequence[Pod]], holders: Sequence[Ports], front: int = 0) -> str:
    """Return a configuration with servers and ports of this machine in place of those found by DNS.

    pods: by the names of their Services.
    """
    for service, its in pods.items():
        text = _servers(text, service, GATEWAY_PORT, [(pod.port, pod.private_port) for pod in its])
        text = _servers(text, service, GATEWAY_PRIVATE_PORT, [(pod.private_port, pod.private_port) for pod in its])
    text = _servers(text, PROXIES, QUEUE_PORT, [(holder.queue, holder.status) for holder in holders])
    front_server = f"server front 127.0.0.1:{GATEWAY_PRIVATE_PORT} "
    assert front_server in text
    text = text.replace(front_server, f"server front 127.0.0.1:{front or 1} {'' if front else 'no-check '}")
    text = text.replace("    default-server init-addr none resolvers cluster resolve-prefer ipv4\n", "")
    text = text.replace(f"bind 127.0.0.1:{PROXY_PORT}\n", f"bind 127.0.0.1:{ports.clients}\n")
    for port, own in ((QUEUE_PORT, ports.queue), (STATUS_PORT, ports.status)):
        text = text.replace(f"bind :{port}\n", f"bind 127.0.0.1:{own}\n")
    return text


def _servers(text: str, service: str, port: int, ports: Sequence[tuple[int, int]]) -> str:
    def servers(template: re.Match[str]) -> str:
        return "\n".join(
            f"    server {template[1]}{index} 127.0.0.1:{own} port {checked}{template[2]}"
            for index, (own, checked) in enumerate(ports, 1)
        )

    return re.sub(rf"    server-template (\w+) \d+ {service}\.[^:]+:{port} port \d+(.*)", servers, text)


def _mount(text: str, folder: Path) -> list[str]:
    """Mount the files alone: pytest's folders are closed to the image's user, the files in them are not."""
    file = folder / "haproxy.cfg"
    file.write_text(text)
    return [f"--volume={each}:{FOLDER}/{each.name}:ro" for each in (file, LUA)]
