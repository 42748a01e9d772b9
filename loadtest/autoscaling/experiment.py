"""`python -m loadtest.experiments autoscaling`: one load under each autoscaler, and what a caller gets without pods.

The autoscalers are the cluster's own: HorizontalPodAutoscaler, metrics-server and KEDA. So are the manifests, the
gateway and HAProxy; the engine is the stand-in, which also uses CPU while it generates.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path

from command_line import one_of
from launcher.console import say
from loadtest.autoscaling.arms import ARMS, CPUS, engine, run_ramp, run_step
from loadtest.autoscaling.ramp import write_ramp
from loadtest.autoscaling.report import new_report
from loadtest.autoscaling.step import write_step
from loadtest.autoscaling.zero import run_zero, write_zero
from loadtest.facts import machine_busy
from loadtest.reporting.reserve import add_out, reserved

NAMES = {"step": "autoscaling", "ramp": "ramp-autoscaled", "zero": "from-zero"}  # of the reports


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    what = f"what to run, of {', '.join(NAMES)}; default: all"
    parser.add_argument("what", nargs="*", type=one_of(list(NAMES)), help=what)
    add_out(parser)


def run(options: argparse.Namespace) -> int:
    """Run one or all of them; each writes its report. Return 0 if every target was met."""
    chosen = options.what or list(NAMES)
    with ExitStack() as stack:
        folders = {what: stack.enter_context(reserved(options, NAMES[what])) for what in chosen}
        return max(EXPERIMENTS[what](folder, options.arguments[1:]) for what, folder in folders.items())


def step(folder: Path, arguments: list[str]) -> int:
    """Replay the step against each autoscaler."""
    report = new_report(folder.name, arguments, seconds=4, cpus=CPUS)
    image, outcomes = engine(seconds=4, cpus=CPUS), {}
    with machine_busy(report):
        for name, arm in ARMS.items():
            say(f"{name}: {arm.what}")
            outcomes[name] = run_step(arm, image)
    return write_step(report, outcomes, folder.parent)


def ramp(folder: Path, arguments: list[str]) -> int:
    """Run the predecessor's ramp while KEDA scales 4 to 10 pods."""
    report = new_report(folder.name, arguments, seconds=12)
    image = engine(seconds=12)
    with machine_busy(report):
        outcome = run_ramp(image)
    return write_ramp(report, outcome, folder.parent)


def zero(folder: Path, arguments: list[str]) -> int:
    """Ask a stage that has no pods."""
    report = new_report(folder.name, arguments, seconds=4)
    with machine_busy(report):
        runs = run_zero()
    return write_zero(report, runs, folder.parent)


EXPERIMENTS = {"step": step, "ramp": ramp, "zero": zero}
