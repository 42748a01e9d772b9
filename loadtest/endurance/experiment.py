"""`python -m loadtest.experiments endurance soak|stress`: Sluice on the cluster, for long, or under far too much."""

import argparse
from dataclasses import dataclass
from typing import Any

from command_line import one_of
from config import LOCAL
from launcher.console import say
from loadtest.address import Address
from loadtest.loads import run_plans
from loadtest.on_cluster import deploy, images
from loadtest.on_cluster.stages import STAND_IN, StandInStage
from loadtest.options import MINUTES
from loadtest.plan import Plan
from loadtest.reporting.folder import publish
from loadtest.reporting.reserve import add_out, reserved
from loadtest.summary import blocks

REPLICAS, SLOTS, SECONDS, VARIATION = 2, 2, 4.0, 0.5
CAPACITY = REPLICAS * SLOTS / SECONDS  # answers/s
NOTE = (
    f"On the cluster: the real manifests, {REPLICAS} pods of {SLOTS} slots, at most {CAPACITY:g} answers/s. Simulated: "
    f"a stand-in for Ollama sleeps {SECONDS:g} s an answer on average. Made by `{{command}}`."
)


@dataclass(frozen=True)
class Load:
    """What is asked: questions a second at 1 ×, and how often each user comes back."""

    rate: float
    retries: int


LOADS = {"soak": Load(rate=0.6 * CAPACITY, retries=3), "stress": Load(rate=CAPACITY, retries=1)}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("scenario", type=one_of(list(LOADS)), help=f"one of {', '.join(LOADS)}")
    parser.add_argument("--minutes", type=MINUTES, help="how long instead of the scenario's own time")
    add_out(parser)


def run(options: argparse.Namespace) -> int:
    """Put Sluice on the cluster, run the scenario, write its report, and return 0 if every target was met."""
    with reserved(options, options.scenario) as folder:
        say("building the images")
        engine = images.engine_image(seconds=SECONDS, variation=VARIATION)
        with deploy.sluice(stage(options.scenario), image=engine, weights=images.no_weights()) as url:
            more = {"name": folder.name, "minutes": options.minutes, "digest": engine, "out": options.out}
            [report] = run_plans([Plan(target=Address(url), **fixed(options.scenario), **more)])
        return publish(report, blocks(report), options.out)


def stage(scenario: str) -> StandInStage:
    """Return the stage, with LOCAL's deadlines and a namespace of its own."""
    numbers = {"min_replicas": REPLICAS, "max_replicas": REPLICAS, "slots": SLOTS, "requests_per_replica": SLOTS}
    where = {"namespace": f"sluice-x-{scenario}", "model": STAND_IN, "requested_cpus": 0.005}
    return StandInStage(**{**vars(LOCAL), **numbers, **where})


def fixed(scenario: str) -> dict[str, Any]:
    """Return what doesn't change from run to run of the load's plan."""
    return {
        "scenario": scenario,
        "model": STAND_IN.name,
        "namespace": f"sluice-x-{scenario}",
        "stage": LOCAL.name,
        "rate": LOADS[scenario].rate,
        "retries": LOADS[scenario].retries,
        "timeout": float(LOCAL.queue_timeout + LOCAL.generation_timeout + 10),
        "note": NOTE.format(command=f"python -m loadtest.experiments endurance {scenario}"),
    }
