"""Requests to HAProxy as fronts send them, and pods behind it that are busy."""

import socket
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

import psutil

from cdk8s_manifests.autoscaling import work_of
from config import LOCAL, Autoscaling
from testbed.fetching import Reply
from testbed.gateway import Served
from testbed.haproxy import Proxy
from testbed.stand_in import StandIn
from testbed.waiting import eventually

SCALED = replace(LOCAL, autoscaling=Autoscaling.REQUESTS)
ONE_SLOT = replace(SCALED, slots=1, requests_per_replica=1, queue_timeout=5, prestop=1)
WORK = work_of("generate")
UP = 'haproxy_backend_active_servers{proxy="generate"}'
Make = Callable[..., Served]
Run = Callable[..., Proxy]
Post = Callable[..., Future[Reply]]


def chat(prompt: str = "x", **body: Any) -> dict[str, Any]:
    """Return a request as a front sends it."""
    return {"messages": [{"role": "user", "content": prompt}], **body}


def code(reply: Reply) -> Any:
    """Return an error's code, after a check of its form."""
    error = reply.json()["error"]
    assert set(error) == {"code", "message", "hint"}
    return error["code"]


def ask(proxy: Proxy) -> socket.socket:
    """Send a request and return its connection."""
    sock = socket.create_connection(("127.0.0.1", proxy.ports.clients), timeout=10)
    sock.sendall(b'POST /engine/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n{"messages":[]}')
    return sock


def crash(served: Served) -> None:
    """Kill gunicorn with its worker, as when a container runs out of memory."""
    for process in (psutil.Process(served.process.pid), *psutil.Process(served.process.pid).children()):
        process.kill()


def queue(proxy: Proxy, post: Post, *prompts: str, priority: str = "interactive", key: str = "") -> list[Future[Reply]]:
    """Queue the prompts one after the other."""
    futures = []
    for prompt in prompts:
        wanted = proxy.waiting + 1
        futures.append(post(proxy, prompt, priority, key))
        eventually(partial(is_waiting, proxy, wanted))
    return futures


def is_waiting(proxy: Proxy, wanted: float) -> bool:
    """Say whether so many requests wait."""
    return proxy.waiting == wanted


def settled(reply: Future[Reply], proxy: Proxy, places: int) -> bool:
    """Say whether a request has its answer, or so many wait."""
    return reply.done() or proxy.waiting == places


def hold_the_slot(stand_in: StandIn, proxy: Proxy, post: Post) -> Future[Reply]:
    """Have the only slot taken until stand_in.release()."""
    stand_in.hold_at = 0
    first = post(proxy, "first")
    eventually(lambda: stand_in.running == 1)
    return first


def learn_the_pace(stand_in: StandIn, proxy: Proxy, post: Post, seconds: float) -> None:
    """Have requests wait in turn, each for an answer of so many seconds."""
    stand_in.first_delay = seconds
    for reply in [post(proxy) for _ in range(6)]:
        assert reply.result().status == 200
