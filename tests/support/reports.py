"""Reports without a run: what one would have measured."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from loadtest.address import Address
from loadtest.cluster import Sample
from loadtest.k6 import QuestionResult, Run
from loadtest.plan import Plan
from loadtest.probe import Stream
from loadtest.report import build
from loadtest.reporting.folder import Report

BEGAN = 1_700_000_000.0
HERE = Address("http://localhost:5000")
# As k6's summary has them.
METRICS = {
    "asked{outcome:answered}": {
        "contains": "time",
        "values": {"p(95)": 1234.5},
        "thresholds": {"p(95)<60000": {"ok": True}},
    },
    "failed": {"contains": "default", "values": {"rate": 0.25}, "thresholds": {"rate<0.1": {"ok": False}}},
    "iterations": {"contains": "default", "values": {"count": 3, "rate": 1}},
}


def plan(**changes: Any) -> Plan:
    values = {"scenario": "steady", "target": HERE, "model": "moondream", "name": "a", "out": Path()}
    return Plan(**{**values, **changes})


def report(
    asked: Sequence[tuple[float, float, str, int]],
    *,
    begun: int | None = None,
    dropped: int = 0,
    streams: Sequence[Stream] = (),
    samples: Sequence[Sample] = (),
    interrupted_after: float | None = None,
    **changes: Any,
) -> Report:
    """Return the report of questions given as (started, took, outcome, attempts)."""
    records = [
        QuestionResult(BEGAN + at, took, outcome, tries, tries - (outcome != "refused"))
        for at, took, outcome, tries in asked
    ]
    began = SimpleNamespace(result=lambda: BEGAN)
    run = SimpleNamespace(asked=records, begun=len(records) if begun is None else begun, dropped=dropped, began=began)
    return build(
        plan(**changes),
        cast(Run, run),
        metrics=METRICS,
        streams=list(streams),
        samples=list(samples),
        interrupted_after=interrupted_after,
    )


def steady(seed: int, *, seconds: float = 1.0, failing: float = 0.0, count: int = 300, **changes: Any) -> Report:
    """Return ten minutes of questions whose answers take so many seconds, and of which such a share fails."""
    generator = np.random.default_rng(seed)
    took = generator.lognormal(np.log(seconds), 0.3, count)
    failed = generator.random(count) < failing
    times = np.arange(count) * 600 / count
    asked = [(at, each, "timeout" if bad else "answered", 1) for at, each, bad in zip(times, took, failed, strict=True)]
    streams = [Stream(BEGAN + at, "answered", each / 2, [0.05, 0.06]) for at, each, _, _ in asked[::10]]
    return report(asked, streams=streams, **changes)
