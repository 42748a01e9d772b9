"""How long a pod had nothing to do while a request waited elsewhere, from what clients and engines wrote down."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from loadtest.balancing.trace import Question

# Seconds that a request may be on its way, through two proxies and a gateway, before it counts as waiting.
ON_ITS_WAY = 0.1


class Span(NamedTuple):
    """From when to when, in seconds of one clock."""

    start: float
    end: float


class Idle(NamedTuple):
    """The seconds in which a request waited, those of them in which a pod was idle, and the pod-seconds of work lost.

    Work lost: at each moment as many pods as are idle, but no more than requests that wait.
    """

    waiting: float
    idle: float
    lost: float


def waits(questions: Iterable[Question], lines: Sequence[Mapping[str, Any]]) -> list[Span]:
    """Return when questions waited: each attempt from when it was sent until an engine started with it, or its end."""
    starts: dict[str, list[float]] = {}
    for line in lines:
        if line["event"] == "request" and line["started"] is not None:
            starts.setdefault(line["key"], []).append(line["started"])
    found = []
    for question in questions:
        for attempt in question.attempts:
            began = [at for at in starts.get(question.key, ()) if attempt.sent <= at <= attempt.ended]
            span = Span(attempt.sent + ON_ITS_WAY, min(began, default=attempt.ended))
            if span.end > span.start:
                found.append(span)
    return found


def busy(lines: Iterable[Mapping[str, Any]], present: Mapping[str, Span]) -> list[Span]:
    """Return when engines worked while their pod was there: a pod that is about to end takes nothing new."""
    done = [line for line in lines if line["event"] == "request" and line["started"] is not None]
    both = [(line, present[line["pod"]]) for line in done if line["pod"] in present]
    spans = [Span(max(line["started"], there.start), min(line["ended"], there.end)) for line, there in both]
    return [span for span in spans if span.end > span.start]


def idle_while_waiting(waiting: Sequence[Span], working: Sequence[Span], present: Sequence[Span]) -> Idle:
    """Sweep over the moments at which something begins or ends. present: when each pod was there to work."""
    kinds = (waiting, working, present)
    steps = [(at, kind, by) for kind, spans in enumerate(kinds) for span in spans for at, by in _ends(span)]
    counts, total, both, lost = [0, 0, 0], 0.0, 0.0, 0.0
    for (now, kind, by), (then, _, _) in pairwise(sorted(steps)):
        counts[kind] += by
        queued, free = counts[0], counts[2] - counts[1]
        total += (then - now) * (queued > 0)
        both += (then - now) * (queued > 0 and free > 0)
        lost += (then - now) * max(0, min(queued, free))
    return Idle(total, both, lost)


def _ends(span: Span) -> tuple[tuple[float, int], tuple[float, int]]:
    return (span.start, 1), (span.end, -1)
