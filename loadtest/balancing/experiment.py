"""`python -m loadtest.experiments balancing`: ways to choose a pod, on one trace, and ours under injected failures."""

import argparse
import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from command_line import whole
from launcher.console import say
from loadtest.balancing.balancers import connection_random, least_outstanding
from loadtest.balancing.disturbances import Churn
from loadtest.balancing.report import write
from loadtest.balancing.systems import CHURN, KILLED, LEAST, RANDOM, SHARED, System
from loadtest.balancing.trace import trace
from loadtest.facts import facts, machine_busy
from loadtest.on_cluster import deploy, images
from loadtest.on_cluster.stages import SECONDS, VARIATION, add_time_scale, experiment_stage
from loadtest.reporting.reserve import add_folder_options, reserved

STARTS: dict[str, Callable[..., Any]] = {RANDOM: connection_random, LEAST: least_outstanding}
DISTURBED_REPLICAS = 4


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
        return write(report, systems, out=options.out)


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
