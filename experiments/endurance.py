"""`python -m experiments endurance soak|stress`: Sluice on the cluster, for long, or under far too much."""

import argparse
import subprocess
import sys
from dataclasses import dataclass

from command_line import one_of
from config import LOCAL
from experiments import deploy, images
from experiments.stages import STAND_IN, StandInStage
from launcher.console import say
from loadtest.options import MINUTES
from loadtest.reserve import add_out, reserved
from local_cluster.kubectl import ROOT

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
    """Put Sluice on the cluster, run the scenario, and return its exit code."""
    with reserved(options.out, options.scenario, replace=options.replace):
        pass  # the run itself reserves it too, but only once the images are built and the pods are ready
    say("building the images")
    engine = images.engine_image(seconds=SECONDS, variation=VARIATION)
    with deploy.sluice(stage(options.scenario), image=engine, weights=images.no_weights()) as url:
        load = [*command(options.scenario, url), "--digest", engine, "--out", str(options.out.absolute())]
        load += ["--minutes", f"{options.minutes:g}"] if options.minutes else []
        load += ["--replace"] if options.replace else []
        return subprocess.run(load, cwd=ROOT).returncode


def stage(scenario: str) -> StandInStage:
    """Return the stage, with LOCAL's deadlines and a namespace of its own."""
    fixed = {"min_replicas": REPLICAS, "max_replicas": REPLICAS, "slots": SLOTS, "requests_per_replica": SLOTS}
    return StandInStage(
        **{**vars(LOCAL), **fixed, "namespace": namespace(scenario), "model": STAND_IN, "requested_cpus": 0.005}
    )


def namespace(scenario: str) -> str:
    """Return the namespace that a scenario runs in."""
    return f"sluice-x-{scenario}"


def command(scenario: str, url: str) -> list[str]:
    """Return the load's command."""
    load = LOADS[scenario]
    values = {
        "scenario": scenario,
        "target": url,
        "model": STAND_IN.name,
        "namespace": namespace(scenario),
        "stage": LOCAL.name,
        "rate": f"{load.rate:g}",
        "retries": str(load.retries),
        "timeout": str(LOCAL.queue_timeout + LOCAL.generation_timeout + 10),
        "note": NOTE.format(command=f"python -m experiments endurance {scenario}"),
    }
    return [sys.executable, "-m", "loadtest", "run", *(text for name in values for text in (f"--{name}", values[name]))]
