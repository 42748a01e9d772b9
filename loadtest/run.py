"""One run from start to report: k6, the stream alongside, the looks at the cluster, and a line now and then."""

import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtest.cluster import EVERY, Sample, look, watch
from loadtest.compare import drift_targets
from loadtest.k6 import Run, run_k6
from loadtest.plan import Plan
from loadtest.probe import Stream, probe
from loadtest.report import build
from loadtest.reporting.folder import Report

POLL = 0.2  # seconds between two looks at what k6 has written
TELL = 15  # seconds between two lines about a run


async def measure(*plans: Plan) -> list[Report]:
    """Run the plans at the same time and return their reports. Raises CannotRun.

    SIGINT and SIGTERM end the runs: the reports then have what was measured until then. Raises KeyboardInterrupt where
    that is nothing.
    """
    with _interrupts() as interrupted:
        return await asyncio.gather(*(_measure(plan, interrupted) for plan in plans))


async def _measure(plan: Plan, interrupted: asyncio.Event) -> Report:
    if plan.namespace:
        await look(plan.namespace)  # what can't be sampled ends the run before it starts
    streams: list[Stream] = []
    samples: list[Sample] = []
    interrupted_after = None
    with TemporaryDirectory() as folder:
        async with run_k6(plan, Path(folder)) as k6:
            alongside = asyncio.create_task(_alongside(plan, k6, streams, samples))
            try:
                await _follow(plan, k6, samples, interrupted)
                if k6.ended or not interrupted.is_set():
                    metrics = await k6.finish()
                else:
                    at, metrics = time.time(), await k6.stop()
                    if not k6.began.done():
                        raise KeyboardInterrupt
                    interrupted_after = at - k6.began.result()
            finally:
                alongside.cancel()
                with suppress(asyncio.CancelledError):
                    await alongside
    ended = [stream for stream in streams if stream.outcome]
    report = build(plan, k6, metrics=metrics, streams=ended, samples=samples, interrupted_after=interrupted_after)
    if plan.scenario == "soak" and interrupted_after is None:
        report["targets"] += drift_targets(report)
    return report


@contextmanager
def _interrupts() -> Iterator[asyncio.Event]:
    """Give what is set by SIGINT and SIGTERM in the block.

    Once one has come, others do nothing, not after the block either: one Ctrl-C may arrive twice, from the terminal and
    from `uv run`, and what follows is short and must not be left half done.
    """
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()

    def handle(*_: object) -> None:
        loop.call_soon_threadsafe(interrupted.set)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if interrupted.is_set() else handler)


async def _alongside(plan: Plan, k6: Run, streams: list[Stream], samples: list[Sample]) -> None:
    """Stream and sample from the moment that k6 measures; the stream stops when the last question is asked."""
    until = await k6.began + plan.seconds
    async with asyncio.TaskGroup() as tasks:
        if plan.streams:
            tasks.create_task(probe(plan, streams, going=lambda: time.time() < until))
        if plan.namespace:
            tasks.create_task(watch(plan.namespace, samples, max(1, EVERY * plan.time_scale)))


async def _follow(plan: Plan, k6: Run, samples: list[Sample], interrupted: asyncio.Event) -> None:
    """Take in what k6 records until it ends or is to end, with a line on standard error every now and then."""
    said = time.monotonic()
    while not k6.ended and not interrupted.is_set():
        await asyncio.sleep(POLL)
        k6.read()
        if k6.began.done() and time.monotonic() - said >= TELL:
            said = time.monotonic()
            print(f"{plan.name}: {progress(plan, k6, samples, time.time())}", file=sys.stderr, flush=True)


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
