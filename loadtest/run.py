"""One run from start to report: k6, the stream beside it, the looks at the cluster, and a line now and then."""

import asyncio
import os
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtest import drift
from loadtest.cluster import EVERY, Sample, look, watch
from loadtest.k6 import Run, run_k6
from loadtest.plan import Plan
from loadtest.probe import Stream, probe
from loadtest.report import Report, build

POLL = 0.2  # seconds between two looks at what k6 has written
TELL = 15  # seconds between two lines about a run


async def measure(plan: Plan) -> Report:
    """Run the plan and return its report. Raises CannotRun."""
    if plan.namespace:
        await look(plan.namespace)  # what can't be sampled ends the run before it starts
    streams: list[Stream] = []
    samples: list[Sample] = []
    with TemporaryDirectory() as folder:
        async with run_k6(plan, Path(folder)) as k6:
            beside = asyncio.create_task(_beside(plan, k6, streams, samples))
            try:
                await _follow(plan, k6, samples)
                metrics = await k6.finish()
            finally:
                beside.cancel()
                with suppress(asyncio.CancelledError):
                    await beside
    ended = [stream for stream in streams if stream.outcome]
    report = build(plan, k6, metrics=metrics, streams=ended, samples=samples)
    if plan.scenario == "soak":
        report["thresholds"] += drift.thresholds(report)
    return report


async def _beside(plan: Plan, k6: Run, streams: list[Stream], samples: list[Sample]) -> None:
    """Stream and sample from the moment that k6 measures; the stream stops when the last question is asked."""
    until = await k6.began + plan.seconds
    async with asyncio.TaskGroup() as tasks:
        if plan.streams:
            key = os.environ.get("API_KEY", "")
            tasks.create_task(probe(plan, key, streams, going=lambda: time.time() < until))
        if plan.namespace:
            tasks.create_task(watch(plan.namespace, samples, max(1, EVERY * plan.time_scale)))


async def _follow(plan: Plan, k6: Run, samples: list[Sample]) -> None:
    """Take in what k6 records until it ends, with a line on standard error every now and then."""
    said = time.monotonic()
    while not k6.ended:
        await asyncio.sleep(POLL)
        k6.read()
        if k6.began.done() and time.monotonic() - said >= TELL:
            said = time.monotonic()
            print(progress(plan, k6, samples, time.time()), file=sys.stderr, flush=True)


def progress(plan: Plan, k6: Run, samples: list[Sample], now: float) -> str:
    """Return where a run stands, in a line."""
    outcomes = Counter(each.outcome for each in k6.asked)
    refused, answered = outcomes["refused"], outcomes["answered"]
    parts = [
        f"{_clock(now - k6.began.result())} of {_clock(plan.seconds)}",
        f"{k6.begun - len(k6.asked)} waiting, {answered} answered, {refused} refused",
        f"{len(k6.asked) - answered - refused} failed",
    ]
    if samples:
        last = samples[-1]
        parts.append(f"{last.ready} of {last.replicas} replicas ready, {last.queued} queued")
    return " · ".join(parts)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
