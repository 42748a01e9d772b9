"""`python -m experiments comparison`: one ramp, one engine, three systems: the naive one, ollama-helm's, Sluice."""

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from experiments import comparison_report, deploy, images
from experiments.comparison_report import HELM, NAIVE, SLUICE, pool
from experiments.facts import facts, machine_busy
from experiments.loads import Target, ramps
from experiments.stages import SECONDS, VARIATION, experiment_stage
from launcher.console import say
from loadtest.report import Report
from loadtest.scenarios import SCENARIOS


def main(arguments: list[str]) -> int:
    """Measure, write the report, and return 0 if every target was met."""
    options = parser().parse_args(arguments)
    report: Report = {"format": 1, "experiment": "comparison", "name": options.name or f"ramp-{options.replicas}"}
    report |= facts(["comparison", *arguments], scale=options.time_scale, variation=options.variation)
    report |= {"replicas": options.replicas, "copies": options.copies}
    runs = measure(options, report)
    systems = {name: pool([run for key, run in runs.items() if _system(key) == name]) for name in (NAIVE, HELM, SLUICE)}
    return comparison_report.write(report | {"systems": systems}, out=options.out)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(prog="python -m experiments comparison", description=main.__doc__)
    made.add_argument("--replicas", type=int, default=4, help="pods of each system; default: 4")
    made.add_argument("--copies", type=int, default=1, help="of each system, counted together; default: 1")
    made.add_argument("--variation", type=float, default=VARIATION, help=f"of the service time; default: {VARIATION}")
    made.add_argument("--name", help="folder of the report; default: ramp-REPLICAS")
    made.add_argument("--out", type=Path, default=Path("loadtest/reports"), help="where that folder is")
    made.add_argument("--time-scale", type=float, default=1, metavar="F", help="multiplies every time; default: 1")
    return made


def measure(options: argparse.Namespace, report: dict[str, Any]) -> dict[str, Report]:
    """Put every copy of every system on the cluster, run the ramp against all of them at once, and return the runs."""
    say("building the images")
    replicas, scale = options.replicas, options.time_scale
    engine = images.engine_image(seconds=SECONDS * scale, variation=options.variation)
    app, weights = images.naive_image(), images.no_weights()
    targets: dict[str, Target] = {}
    with ExitStack() as stack:
        for copy in range(1, options.copies + 1):
            stage = experiment_stage(f"sluice-x-sluice-{copy}", replicas=replicas, scale=scale)
            systems = {
                NAIVE: ("naive", deploy.naive(f"sluice-x-naive-{copy}", replicas=replicas, app=app, engine=engine)),
                HELM: ("ollama", deploy.ollama_helm(f"sluice-x-ollama-{copy}", replicas=replicas, engine=engine)),
                SLUICE: ("sluice", deploy.sluice(stage, image=engine, weights=weights)),
            }
            for name, (api, system) in systems.items():
                targets[f"{name}-{copy}"] = Target(stack.enter_context(system), api)
        minutes = SCENARIOS["ramp"].minutes * scale
        say(f"the ramp against all of them at once: {minutes:g} minutes and what is then still asked")
        with machine_busy(report):
            return ramps(targets, scale=scale)


def _system(key: str) -> str:
    return key.rpartition("-")[0]
