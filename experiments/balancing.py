"""`python -m experiments balancing`: one trace, three ways to choose a pod, and ours under injected failures."""

import argparse
import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from command_line import whole
from experiments import balancing_report, deploy, images
from experiments.balancers import connection_random, least_outstanding
from experiments.disturbances import Churn, Event, kill_proxies
from experiments.facts import facts, machine_busy
from experiments.idle import Idle, Span, busy, idle_while_waiting, waits
from experiments.stages import SECONDS, VARIATION, add_time_scale, experiment_stage
from experiments.trace import PHASES, Question, replay, trace
from launcher.console import say
from loadtest.reporting.reserve import add_folder_options, reserved

RANDOM, LEAST, SHARED, KILLED, CHURN = "random", "least", "shared", "killed", "churn"
STARTS: dict[str, Callable[..., Any]] = {RANDOM: connection_random, LEAST: least_outstanding}
DISTURBED_REPLICAS = 4


@dataclass
class System:
    """A balancer with its pods, the trace as it went through it, and what was done to it meanwhile."""

    name: str
    namespace: str
    url: str
    replicas: int
    scale: float
    questions: list[Question]
    events: list[Event] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    churn: Churn | None = None
    started: float = 0.0
    ended: float = 0.0

    @property
    def seconds(self) -> float:
        """Return how long questions are asked."""
        return sum(length for length, _ in PHASES) * self.scale

    async def run(self) -> None:
        """Play the trace, with the disturbances."""
        self.started = time.time()
        disturbance: Coroutine[Any, Any, None] | None = None
        if self.name == KILLED:
            disturbance = kill_proxies(self.namespace, seconds=self.seconds, events=self.events)
        elif self.churn:
            disturbance = self.churn.run(replicas=self.replicas, seconds=self.seconds)
        async with asyncio.TaskGroup() as tasks:
            if disturbance:
                tasks.create_task(disturbance)
            tasks.create_task(replay(f"{self.name}-{self.replicas}", self.url, self.questions, scale=self.scale))
        self.ended = time.time()

    def collect(self) -> None:
        """Take in what the engines wrote, each line once."""
        lines = deploy.engine_lines(self.namespace)
        if self.churn:
            self.churn.look()
            lines += self.churn.lines()
        self.lines = list({str(line): line for line in lines}.values())

    def idle(self) -> Idle:
        """Return how long pods were idle while requests waited."""
        always = {line["pod"]: Span(self.started, self.ended) for line in self.lines}
        present = self.churn.present(self.ended) if self.churn else always
        return idle_while_waiting(waits(self.questions, self.lines), busy(self.lines, present), [*present.values()])


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--replicas", type=whole(1), nargs="+", default=[4, 10], help="pods of each; default: 4 10")
    add_folder_options(parser, default="balancing")
    add_time_scale(parser)


def run(options: argparse.Namespace) -> int:
    """Measure with each number of pods, write the report, and return 0 if the shared queue was the best throughout."""
    scale = options.time_scale
    with reserved(options, "balancing") as folder:
        report = facts(folder.name, options.arguments, scale=scale)
        say("building the images")
        engine, weights = images.engine_image(seconds=SECONDS * scale, variation=VARIATION), images.no_weights()
        with machine_busy(report):
            parts = groups(options.replicas)
            systems = [each for names, count in parts for each in measure(names, count, scale, engine, weights)]
        return balancing_report.write(report, systems, out=options.out)


def groups(replicas: Sequence[int]) -> Iterator[tuple[Sequence[str], int]]:
    """Yield the systems that are measured at the same time, and how many pods each has."""
    for count in replicas:
        yield (RANDOM, LEAST, SHARED), count
        if count == DISTURBED_REPLICAS:
            yield (KILLED, CHURN), count


def measure(names: Sequence[str], replicas: int, scale: float, engine: str, weights: str) -> list[System]:
    """Put the systems with so many pods on the cluster, play the trace to all of them at once, and return them."""
    with ExitStack() as stack:
        systems = [_start(stack, name, replicas, scale, engine, weights) for name in names]
        say(f"the trace: {len(systems[0].questions)} questions to {len(systems)} systems of {replicas} pods at once")
        asyncio.run(_play(systems))
        for system in systems:
            system.collect()
    return systems


def _start(stack: ExitStack, name: str, replicas: int, scale: float, engine: str, weights: str) -> System:
    namespace = f"sluice-x-{name}"
    stage = experiment_stage(namespace, replicas=replicas, scale=scale)
    start = STARTS.get(name, deploy.sluice)
    url = stack.enter_context(start(stage, image=engine, weights=weights))
    deploy.await_answer(f"{url}/v1/models")
    system = System(name, namespace, url, replicas, scale, trace(replicas, scale=scale))
    if name == CHURN:
        system.churn = Churn(namespace, system.events)
    return system


async def _play(systems: list[System]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for system in systems:
            tasks.create_task(system.run())
