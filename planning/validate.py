"""Measure real queues and predict them from speeds that were measured apart, at a light load."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from command_line import whole
from loadtest.reporting.folder import new_report, publish
from loadtest.reporting.reserve import add_out, reserved
from loadtest.reporting.statistics import rounded
from loadtest.reporting.target import Target, new_target
from planning.measure import QueueUnderTest, measure_speeds, replay, running
from planning.simulation import Outcome, Simulation, System
from planning.speeds import Speeds
from planning.validation_report import REAL, SHARES, SIMULATED, blocks
from planning.workload import Length, Trace, Workload

FRESH = 40  # traces of other seeds, which show how much luck is in one run
LATE = 0.02  # seconds by which 1 % of the requests may be sent too late; beyond, the machine had other work: once more
ATTEMPTS = 3
LIMIT = 0.15  # of the measured p95 wait
PROMPT, ANSWER = Length(40, 20, 200), Length(24, 16, 120)
# Speeds at which a request takes about a fifth of a second: what a busy machine adds is little compared with that.
ONE_POD = System(
    replicas=1,
    slots=4,
    speeds=Speeds(prefill=16000, decode={1: 180, 4: 120}),
    queue_timeout=20,
    generation_timeout=30,
)
FOUR_PODS = replace(ONE_POD, replicas=4, slots=2, speeds=Speeds(prefill=16000, decode={1: 120, 2: 100}))


@dataclass(frozen=True)
class Case:
    """A system, and the shares of its capacity that are offered to it."""

    name: str
    system: System
    loads: tuple[float, ...]


CASES = (
    Case("gateway", ONE_POD, (0.6, 0.8, 0.9, 0.95)),
    Case("gateway, queue of 1 s", replace(ONE_POD, queue_timeout=1), (1.3,)),
    Case("HAProxy before 4 pods", FOUR_PODS, (0.8, 0.95)),
    Case("HAProxy before 4 pods, queue of 1 s", replace(FOUR_PODS, queue_timeout=1), (1.3,)),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--seconds", type=whole(10), default=45, metavar="S", help="of each measured run (default: 45)")
    add("--seed", type=whole(), default=1, metavar="N", help="of the arrivals and lengths (default: 1)")
    add_out(parser)


def run(options: argparse.Namespace) -> int:
    """Measure, predict, write the report, and return 1 where a p95 wait is off by more than LIMIT."""
    with reserved(options, "plan") as folder:
        started = time.monotonic()
        words = ["--seconds", str(options.seconds), "--seed", str(options.seed)]
        report = new_report(folder.name, ["planning", "validate", *words])
        report |= {"real": REAL, "simulated": SIMULATED, "limit": LIMIT, "fresh_traces": FRESH}
        report["rows"] = list(_rows(options.seconds, options.seed))
        report |= {"targets": [target(report["rows"])], "seconds": round(time.monotonic() - started)}
        return publish(report, blocks(report), options.out)


def target(rows: list[dict[str, Any]]) -> Target:
    """Return whether the worst prediction is within the limit."""
    worst = max(rows, key=lambda row: abs(row["error"]))
    error = f"at most {worst['error']:+.1%} ({worst['case']}, {worst['load']:.0%} load)"
    return new_target("error of the predicted p95 wait", error, f"within {LIMIT:.0%}", abs(worst["error"]) <= LIMIT)


def _rows(seconds: int, seed: int) -> Iterator[dict[str, Any]]:
    measured: dict[int, Speeds] = {}
    for case in CASES:
        with running(case.system) as target:
            if case.system.replicas not in measured:
                _say(f"{case.name}: speeds of a pod …")
                measured[case.system.replicas] = _speeds(target, case.system, seconds)
            speeds = measured[case.system.replicas]
            known = replace(case.system, speeds=speeds)
            for load in case.loads:
                _say(f"{case.name}: {load:.0%} of what it can do for {seconds} s …")
                workload = _workload(case.system, speeds, load)
                trace = workload.trace(int(workload.rate * seconds), seed)
                real, late, attempts = _undisturbed(target, trace, f"{load:g}")
                again = Simulation(known, trace).run()
                others = range(seed + 1, seed + 1 + FRESH)
                fresh = [Simulation(known, workload.trace(len(trace.arrivals), other)).run() for other in others]
                row = _row(case, load, speeds, real, again, fresh)
                row |= {"rate": round(workload.rate, 2), "late_s": round(late, 4), "attempts": attempts}
                _say(f"  p95 wait {row['p95_wait_s']}")
                yield row


def _speeds(target: QueueUnderTest, system: System, seconds: int) -> Speeds:
    """Return a pod's speeds as streams show them, with the overhead that requests have at half the load."""
    speeds = measure_speeds(system)
    workload = _workload(system, speeds, 0.5)
    trace = workload.trace(int(workload.rate * seconds / 2), seed=0)
    real, _, _ = _undisturbed(target, trace, "light")
    predicted = Simulation(replace(system, speeds=speeds), trace).run()
    return replace(speeds, overhead=speeds.overhead + _service(real) - _service(predicted))


def _undisturbed(target: QueueUnderTest, trace: Trace, name: str) -> tuple[Outcome, float, int]:
    """Replay until the client could keep time, ATTEMPTS times at most; return the run in which it kept it best."""
    runs = []
    for attempt in range(1, ATTEMPTS + 1):
        outcome, late = replay(target, trace, f"{name}-{attempt}")
        runs.append((late, attempt, outcome))
        if late <= LATE:
            break
        _say(f"  the machine was busy: 1 % were sent {late * 1000:.0f} ms late or more")
    late, _, outcome = min(runs, key=lambda run: run[:2])
    return outcome, late, len(runs)


def _workload(system: System, speeds: Speeds, load: float) -> Workload:
    sample = Workload(rate=1, prompt=PROMPT, answer=ANSWER).trace(100_000, seed=0)
    each = speeds.requests_per_second(system.slots, float(sample.prompts.mean()), float(sample.answers.mean()))
    return Workload(rate=load * system.replicas * each, prompt=PROMPT, answer=ANSWER)


def _row(
    case: Case, load: float, speeds: Speeds, real: Outcome, again: Outcome, fresh: list[Outcome]
) -> dict[str, Any]:
    low, middle, high = np.percentile([outcome.p95_wait() for outcome in fresh], [2.5, 50, 97.5])

    def both(of: Callable[[Outcome], float]) -> dict[str, float]:
        return {"measured": rounded(of(real)), "predicted": rounded(of(again))}

    return {
        "case": case.name,
        "replicas": case.system.replicas,
        "slots": case.system.slots,
        "load": load,
        "requests": real.arrived,
        "speeds": {
            "prefill": round(speeds.prefill),
            "decode": {str(count): round(speed, 1) for count, speed in speeds.decode.items()},
            "overhead_s": round(speeds.overhead, 5),
        },
        "p95_wait_s": both(Outcome.p95_wait),
        "error": rounded(again.p95_wait() / real.p95_wait() - 1),
        "fresh_p95_wait_s": [rounded(value) for value in (middle, low, high)],
        "mean_wait_s": both(lambda outcome: float(outcome.waits.mean())),
        "mean_service_s": both(_service),
        "p95_latency_s": both(Outcome.p95_latency),
        "refused": {"measured": rounded(real.refused / real.arrived), "predicted": rounded(again.unanswered)},
        "failed": real.timed_out,
        "waits_s": {
            side: [rounded(wait) for wait in np.quantile(outcome.waits, SHARES)]
            for side, outcome in (("measured", real), ("predicted", again))
        },
    }


def _service(outcome: Outcome) -> float:
    return float(np.mean(outcome.latencies - outcome.waits))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
