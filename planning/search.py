"""The smallest number of replicas that keeps a service level objective, and how sure that is."""

import math
import os
import signal
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from command_line import InputError
from config import Stage
from loadtest.reporting.statistics import Interval, student
from planning.simulation import Outcome, Simulation, System
from planning.speeds import Speeds
from planning.workload import Workload

RUNS = 6  # with other arrivals and lengths each
REQUESTS = 20_000  # that count in a run: at 95 % load about ten times as many as a queue remembers
FILLINGS = 3  # of every slot, before requests count
MOST = 20_000  # replicas


@dataclass(frozen=True, kw_only=True)
class Slo:
    """What must hold: seconds that 95 % stay below, and the share that may be refused or run out of time, 0 to 1."""

    p95_wait: float = math.inf
    p95_latency: float = math.inf
    unanswered: float

    def kept(self, p95_wait: float, p95_latency: float, unanswered: float) -> bool:
        """Say whether these figures keep it."""
        return p95_wait <= self.p95_wait and p95_latency <= self.p95_latency and unanswered <= self.unanswered

    def kept_by(self, outcome: Outcome) -> bool:
        """Say whether a run kept it."""
        return self.kept(outcome.p95_wait(), outcome.p95_latency(), outcome.unanswered)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a number of replicas does, over all runs."""

    replicas: int
    p95_wait: Interval
    p95_latency: Interval
    unanswered: Interval
    utilisation: Interval
    most_at_once: int


class Answer(NamedTuple):
    """The forecast of the smallest number that keeps the objective, and the fewest and the most that a run needed."""

    forecast: Forecast
    fewest: int
    most: int


def first_guess(workload: Workload, stage: Stage, speeds: Speeds) -> System:
    """Return the stage's system with about as many replicas as the mean lengths need. Raises InputError beyond MOST."""
    sample = workload.trace(REQUESTS, seed=0)
    rate = speeds.requests_per_second(stage.slots, float(sample.prompts.mean()), float(sample.answers.mean()))
    replicas = math.ceil(workload.rate / rate)
    if replicas > MOST:
        raise InputError(
            f"--rate {workload.rate:,.15g} keeps {replicas:,} replicas busy, and {MOST:,} are the most that are "
            "simulated: plan for a part of it"
        )
    return System(
        replicas=replicas,
        slots=stage.slots,
        speeds=speeds,
        queue_timeout=stage.queue_timeout,
        generation_timeout=stage.generation_timeout,
    )


def check_possible(workload: Workload, system: System, slo: Slo) -> None:
    """Raise InputError where a request that has a pod to itself already breaks the objective."""
    sample = workload.trace(REQUESTS, seed=0)
    alone = system.speeds.alone(sample.prompts, sample.answers)
    p95, late = float(np.percentile(alone, 95)), float((alone > system.generation_timeout).mean())
    if p95 > slo.p95_latency:
        raise InputError(f"--p95-latency {slo.p95_latency:g} can't be kept: alone on a pod p95 is {p95:.3g} s")
    if late > slo.unanswered:
        timeout = f"generation_timeout={system.generation_timeout:g}"
        raise InputError(
            f"--refused {100 * slo.unanswered:g} can't be kept: alone on a pod {late:.2%} run into {timeout}"
        )


def run(workload: Workload, system: System, seed: int) -> Outcome:
    """Return one run's outcome; raises nothing."""
    warm_up = FILLINGS * system.replicas * system.slots + REQUESTS // 10
    return Simulation(system, workload.trace(warm_up + REQUESTS, seed), warm_up).run()


def forecast(pool: ProcessPoolExecutor, workload: Workload, system: System, seed: int) -> Forecast:
    """Return what `system` does with the workload, over all runs."""
    outcomes = list(pool.map(partial(run, workload, system), range(seed, seed + RUNS)))
    return Forecast(
        replicas=system.replicas,
        p95_wait=student([outcome.p95_wait() for outcome in outcomes]),
        p95_latency=student([outcome.p95_latency() for outcome in outcomes]),
        unanswered=student([outcome.unanswered for outcome in outcomes]),
        utilisation=student([outcome.utilisation for outcome in outcomes]),
        most_at_once=max(outcome.most_at_once for outcome in outcomes),
    )


def search(
    pool: ProcessPoolExecutor,
    workload: Workload,
    system: System,
    slo: Slo,
    seed: int,
    show: Callable[[str], None] = lambda _: None,
) -> Answer:
    """Return the smallest number of replicas whose forecast keeps `slo`; the system's own number is the first guess.

    show: is told how far the search is. Raises InputError where no number keeps it.
    """
    check_possible(workload, system, slo)
    each = [needed(workload, system, slo, seed, lambda replicas: show(f"step 1 of 3: tried {replicas:,} replicas"))]
    guess = replace(system, replicas=each[0])
    for count in pool.map(partial(needed, workload, guess, slo), range(seed + 1, seed + RUNS)):
        each.append(count)
        show(f"step 2 of 3: {len(each)} of {RUNS} runs")
    replicas = round(statistics.fmean(each))
    show(f"step 3 of 3: a forecast with {replicas:,} replicas")
    while not _kept(slo, found := forecast(pool, workload, replace(system, replicas=replicas), seed)):
        replicas += math.ceil(replicas / 200)
    return Answer(found, min(each), max(each))


def _kept(slo: Slo, found: Forecast) -> bool:
    return slo.kept(found.p95_wait.value, found.p95_latency.value, found.unanswered.value)


def needed(
    workload: Workload, system: System, slo: Slo, seed: int, tried: Callable[[int], None] = lambda _: None
) -> int:
    """Return the fewest replicas with which one run keeps the objective. tried: is told each number that was tried."""

    def kept(replicas: int) -> bool:
        outcome = run(workload, replace(system, replicas=replicas), seed)
        tried(replicas)
        return slo.kept_by(outcome)

    return smallest(kept, system.replicas)


def smallest(kept: Callable[[int], bool], guess: int) -> int:
    """Return the smallest number for which `kept` is true, and from which on it stays so; looks near `guess` first.

    From 1,000 on it is one that is larger by at most a 500th. Raises InputError where there is none.
    """
    step, exact = math.ceil(guess / 100), max(1, guess // 500)
    low, high = 0, guess
    if kept(guess):
        while high - step > 0 and kept(high - step):
            high, step = high - step, 2 * step
        low = max(0, high - step)
    else:
        low, high = guess, guess + step
        while high <= MOST and not kept(high):
            step *= 2
            low, high = high, high + step
        if high > MOST:
            raise InputError(f"not even {low:,} replicas keep the objective, and more than {MOST:,} aren't simulated")
    while high - low > exact:
        middle = (low + high) // 2
        low, high = (low, middle) if kept(middle) else (middle, high)
    return high


def workers() -> ProcessPoolExecutor:
    """Return a process for each CPU. Ctrl-C ends them at once and without a word: the main process has the last one."""
    cpus = len(os.sched_getaffinity(0))
    return ProcessPoolExecutor(cpus, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_DFL))
