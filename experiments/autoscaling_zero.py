"""From no pod to the first answer: what callers get who come back when they are told to."""

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from cdk8s_manifests.names import GATEWAY
from config import Autoscaling
from experiments.autoscaling_arms import autoscaled, engine
from experiments.autoscaling_observer import Observer, observing
from experiments.deploy import sluice
from experiments.images import no_weights
from launcher.console import say
from local_cluster.kubectl import eventually, get

SCALE = 0.55  # a queue of 31 s, as dev's
NAMESPACE = "sluice-x-zero"
STARTS = {"pod": 0, "node": 60}  # seconds until the model is there: with a node, and without, when one must come first
CALLERS = 5
PATIENCE = 300  # seconds in which a caller comes back
Visit = dict[str, Any]


def run_zero() -> dict[str, Any]:
    """Ask a stage that has no pods, once for each kind of start, and return what each caller got."""
    stage = replace(autoscaled(NAMESPACE, Autoscaling.REQUESTS, least=0, most=2, scale=SCALE), start_timeout=PATIENCE)
    runs = {}
    for name, seconds in STARTS.items():
        image = engine(seconds=4, load_seconds=seconds)
        with sluice(stage, image=image, weights=no_weights()) as url, observing(NAMESPACE) as seen:
            say("waiting until there is no pod")
            eventually(lambda: get("deployment", GATEWAY, NAMESPACE)["spec"]["replicas"] == 0, 120)
            eventually(lambda: seen.samples[-1].pods == 0, 120)  # none that drains either
            say(f"{CALLERS} callers")
            began = time.time()
            with ThreadPoolExecutor(CALLERS) as callers:
                calls = list(callers.map(call, [url] * CALLERS, (f"{number}. Hello?" for number in range(CALLERS))))
            runs[name] = {"load_s": seconds, "callers": calls, **_pods(seen, began)}
    return runs


def call(url: str, prompt: str) -> list[Visit]:
    """Ask until there is an answer, coming back when told to, and return each visit: times in seconds."""
    visits: list[Visit] = []
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE:
        at = time.monotonic()
        status, retry_after = _ask(url, prompt)
        took = time.monotonic() - at
        visits.append(
            {"at": round(at - began, 1), "took": round(took, 1), "status": status, "retry_after": retry_after}
        )
        if status == 200 or retry_after is None:
            break
        time.sleep(retry_after)
    return visits


def total(visits: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the seconds from a caller's first request to its answer; None if there was none."""
    last = visits[-1]
    return round(last["at"] + last["took"], 1) if last["status"] == 200 else None


def _ask(url: str, prompt: str) -> tuple[int, int | None]:
    """Return an answer's status and its Retry-After; status 0 for a connection that broke."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=200)
    try:
        connection.request("POST", "/generate", json.dumps({"prompt": prompt}))
        reply = connection.getresponse()
        reply.read()
    except (OSError, HTTPException):
        return 0, None
    finally:
        connection.close()
    told = reply.headers["Retry-After"]
    return reply.status, int(told) if told else None


def _pods(seen: Observer, began: float) -> dict[str, float | None]:
    """Return when the first pod that was made for the callers was wanted, created and ready, in seconds."""
    wanted = next((sample.at for sample in seen.samples if sample.at > began and sample.wanted), None)
    came = [pod for pod in seen.pods.values() if pod.created > began]
    first = min(came, key=lambda pod: pod.created, default=None)
    times = {"wanted": wanted, "created": first and first.created, "ready": first and first.ready}
    return {what: round(at - began, 1) if at else None for what, at in times.items()}
