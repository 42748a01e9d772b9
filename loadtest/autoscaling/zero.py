"""From no pod to the first answer: what callers get who come back when they are told to."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

from cdk8s_manifests.names import GATEWAY
from config import Autoscaling
from launcher.console import say
from loadtest.autoscaling.arms import autoscaled, engine
from loadtest.autoscaling.observer import Observer, observing
from loadtest.on_cluster.deploy import sluice
from loadtest.on_cluster.images import no_weights
from loadtest.reporting.document import Block, Cell, Table, cell
from loadtest.reporting.folder import Report, publish
from loadtest.reporting.target import at_least, at_most
from local_cluster.kubectl import eventually, get
from testbed.fetching import fetch

SCALE = 0.55  # a queue of 31 s, as dev's
NAMESPACE = "sluice-x-zero"
STARTS = {"pod": 0, "node": 60}  # seconds until the model is there: with a node, and without, when one must come first
CALLERS = 5
PATIENCE = 300  # seconds in which a caller comes back
VISITS = 4  # of a client of loadtest/: it comes back three times
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
    try:
        reply = fetch(f"{url}/generate", {"prompt": prompt}, timeout=200)
    except (OSError, HTTPException):
        return 0, None
    told = reply.headers.get("Retry-After")
    return reply.status, int(told) if told else None


def _pods(seen: Observer, began: float) -> dict[str, float | None]:
    """Return when the first pod that was made for the callers was wanted, created and ready, in seconds."""
    wanted = next((sample.at for sample in seen.samples if sample.at > began and sample.wanted), None)
    came = [pod for pod in seen.pods.values() if pod.created > began]
    first = min(came, key=lambda pod: pod.created, default=None)
    times = {"wanted": wanted, "created": first and first.created, "ready": first and first.ready}
    return {what: round(at - began, 1) if at else None for what, at in times.items()}


def write_zero(report: Report, runs: dict[str, Any], out: Path) -> int:
    """Write what callers got, and return 0 if each had its answer within the usual visits."""
    calls = [call for run in runs.values() for call in run["callers"]]
    answered = sum(total(call) is not None for call in calls)
    report["runs"] = runs
    report["targets"] = [
        at_least("callers answered", answered, len(calls)),
        at_most("visits of a caller", max(len(call) for call in calls), VISITS),
    ]
    return publish(report, blocks(report), out)


def blocks(report: Report) -> Iterator[Block]:
    """Yield the blocks of the report."""
    yield (
        f"{CALLERS} callers ask at once where no pod is (KEDA, minimum 0) and come back when Retry-After says, as "
        "often as it takes. HAProxy holds a request for up to 31 s, as its queue would; it goes on as soon as a pod is "
        "ready. There is a column for each kind of start: on a node that is there, and one that takes as long as if a "
        "node had to come first."
    )
    times = {"wanted": "a pod is wanted, s", "created": "created, s", "ready": "ready, s"}
    figures = {title: cell(name, missing="never") for name, title in times.items()}
    figures |= {f"caller {number + 1}": _visits_of(number) for number in range(CALLERS)}
    columns = {f"the model loads {STARTS[name]} s": run for name, run in report["runs"].items()}
    yield Table.columns_of("", columns, figures)


def _visits_of(number: int) -> Cell:
    return lambda run: visits(run["callers"][number])


def visits(call: Sequence[Mapping[str, Any]]) -> str:
    """Return what a caller got, visit by visit, and how long it took in all."""
    end = total(call)
    said = "; ".join(
        f"{each['status']} after {each['took']:g} s"
        + (f", back in {each['retry_after']} s" if each["retry_after"] else "")
        for each in call
    )
    return f"{said}: **no answer**" if end is None else f"{said}: {end:g} s in all"
