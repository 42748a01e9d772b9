"""`python -m loadtest.experiments comparison`: one ramp for the naive system, ollama-helm's and Sluice."""

import argparse
from contextlib import ExitStack

from command_line import number, whole
from launcher.console import say
from loadtest.comparison.report import HELM, NAIVE, SLUICE, pool, write
from loadtest.facts import facts, machine_busy
from loadtest.loads import Endpoint, ramps
from loadtest.on_cluster import deploy, images
from loadtest.on_cluster.stages import SECONDS, VARIATION, add_time_scale, experiment_stage
from loadtest.reporting.folder import Report
from loadtest.reporting.reserve import add_folder_options, reserved
from loadtest.scenarios import SCENARIOS

SYSTEMS = (NAIVE, HELM, SLUICE)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--replicas", type=whole(1), default=4, help="pods of each system; default: 4")
    add("--copies", type=whole(1), default=1, help="of each system, counted together; default: 1")
    add("--variation", type=number(0, 10), default=VARIATION, help=f"of the service time; default: {VARIATION}")
    add_folder_options(parser, default="ramp-REPLICAS")
    add_time_scale(parser)


def run(options: argparse.Namespace) -> int:
    """Measure, write the report, and return 0 if every target was met."""
    with reserved(options, f"ramp-{options.replicas}") as folder:
        report = facts(folder.name, options.arguments, scale=options.time_scale, variation=options.variation)
        report |= {"replicas": options.replicas, "copies": options.copies}
        runs = measure(options, report)
        copies = {system: [run for key, run in runs.items() if _system(key) == system] for system in SYSTEMS}
        report["systems"] = {system: pool(each) for system, each in copies.items()}
        return write(report, out=options.out)


def measure(options: argparse.Namespace, report: Report) -> dict[str, Report]:
    """Put every copy of every system on the cluster, run the ramp against all of them at once, and return the runs."""
    say("building the images")
    replicas, scale = options.replicas, options.time_scale
    engine = images.engine_image(seconds=SECONDS * scale, variation=options.variation)
    app, weights = images.naive_image(), images.no_weights()
    targets: dict[str, Endpoint] = {}
    with ExitStack() as stack:
        for copy in range(1, options.copies + 1):
            stage = experiment_stage(f"sluice-x-sluice-{copy}", replicas=replicas, scale=scale)
            systems = {
                NAIVE: ("naive", deploy.naive(f"sluice-x-naive-{copy}", replicas=replicas, app=app, engine=engine)),
                HELM: ("ollama", deploy.ollama_helm(f"sluice-x-ollama-{copy}", replicas=replicas, engine=engine)),
                SLUICE: ("sluice", deploy.sluice(stage, image=engine, weights=weights)),
            }
            for name, (api, system) in systems.items():
                targets[f"{name}-{copy}"] = Endpoint(stack.enter_context(system), api)
        minutes = SCENARIOS["ramp"].minutes * scale
        say(f"the ramp against all of them at once: {minutes:g} minutes and what is then still asked")
        with machine_busy(report):
            return dict(zip(targets, ramps(targets, scale=scale), strict=True))


def _system(key: str) -> str:
    return key.rpartition("-")[0]
