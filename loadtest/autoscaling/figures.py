"""The figures of an autoscaling run: what a step of the load costs callers, and what the pods that came for it cost.

Times are in seconds since the run began; a request is `[started, took, outcome, attempts]`, as report.json has it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Any

from loadtest.autoscaling.observer import Pod, Sample

Request = Sequence[Any]
WINDOW = 15.0  # seconds; the SLO holds in a window when SHARE of its requests kept it
SHARE = 0.95
PROBE = sha256(b"Hello").hexdigest()[:16]  # the key of the startup probe's own request: cdk8s_manifests/first_token.py


@dataclass(frozen=True)
class Step:
    """When the load rises and when it is back, and within how many seconds an answer is good."""

    up: float
    down: float
    slo: float

    def good(self, request: Request) -> bool:
        """Say whether a request had its answer in time, its retries counted in."""
        _, took, outcome, _ = request
        return bool(outcome == "answered" and took <= self.slo)


def time_to_detect(samples: Sequence[Sample], up: float) -> float | None:
    """Return the seconds from the load's rise until more pods are wanted than before; None if that never happens."""
    before = max((sample.wanted for sample in samples if sample.at <= up), default=0)
    return next((sample.at - up for sample in samples if sample.at > up and sample.wanted > before), None)


def recovery_time(requests: Sequence[Request], step: Step) -> float | None:
    """Return the seconds from the load's rise until the SLO holds, and goes on holding while the load is high.

    0 where it was never violated, None where it doesn't hold again: the last window begins WINDOW before the load
    falls.
    """
    starts = [step.up + second for second in range(math.floor(step.down - WINDOW - step.up) + 1)]
    violated = [start for start in starts if not _holds(requests, step, start)]
    if not violated:
        return 0.0
    again = violated[-1] + 1
    return again - step.up if again <= starts[-1] else None


def _holds(requests: Sequence[Request], step: Step, start: float) -> bool:
    inside = [step.good(request) for request in requests if start <= request[0] < start + WINDOW]
    return not inside or sum(inside) >= SHARE * len(inside)


def slo_violation_seconds(requests: Sequence[Request], step: Step, end: float) -> float:
    """Return the integral over time of the share of requests that miss the SLO, by when they were sent.

    10 s says: as bad as if for 10 seconds nobody had been served in time. One bin is WINDOW long.
    """
    total = 0.0
    for number in range(math.ceil(end / WINDOW)):
        start = number * WINDOW
        inside = [step.good(request) for request in requests if start <= request[0] < start + WINDOW]
        if inside:
            total += WINDOW * (1 - sum(inside) / len(inside))
    return total


def integral(samples: Sequence[Sample], value: Callable[[Sample], float]) -> float:
    """Return the integral of a sample's value over time; each value holds until the next sample."""
    return sum(value(before) * (after.at - before.at) for before, after in pairwise(samples))


def busy_seconds(lines: Sequence[dict[str, Any]], start: float, end: float) -> float:
    """Return how many seconds the engines have computed, within a time in seconds since 1970."""
    spans: list[tuple[float, float]] = [(line["started"], line["ended"]) for line in lines if line.get("started")]
    return sum(max(0.0, min(ended, end) - max(started, start)) for started, ended in spans)


def new_pods(pods: dict[str, Pod], lines: Sequence[dict[str, Any]], up: float) -> list[dict[str, float | None]]:
    """Return the times of each pod that came after the rise, in seconds since then; None for what never came.

    up: of the rise, in seconds since 1970, as those of pods and of the engines' lines are.
    """
    first: dict[str, float] = {}
    for line in lines:
        if line.get("outcome") == "complete" and line["key"] != PROBE:
            first[line["pod"]] = min(line["ended"], first.get(line["pod"], math.inf))
    came = sorted((pod.created, name) for name, pod in pods.items() if pod.created > up)
    times = [{"created": created, "ready": pods[name].ready, "first_answer": first.get(name)} for created, name in came]
    return [{what: None if at is None else round(at - up, 1) for what, at in each.items()} for each in times]
