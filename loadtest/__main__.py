"""`python -m loadtest run` measures a deployment and writes a report; `compare` puts two reports side by side.

Exit code 0: as it should be. 1: a target was missed or the run is invalid; the second report is a regression.
"""

import argparse
import asyncio
import os
import signal
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from command_line import INTERRUPTED, InputError, Parser, number, run
from config import Stage
from loadtest import report
from loadtest.compare import TOLERANCE, table
from loadtest.compare import compare as compare_reports
from loadtest.k6 import CannotRun
from loadtest.options import add_options
from loadtest.plan import Plan
from loadtest.reporting.folder import publish
from loadtest.reporting.reserve import reserved
from loadtest.run import measure
from loadtest.served import served_model
from loadtest.summary import blocks


def main(arguments: list[str]) -> int:
    """Run one command and return the exit code."""
    return run(parser(), arguments, CannotRun, interrupted="interrupted, so there is no report")


def load(options: argparse.Namespace) -> int:
    """Measure, and write the report. Raises InputError or CannotRun."""
    plan = read_plan(options)
    if plan.target.credentials and os.environ.get("API_KEY"):
        raise InputError("--target has credentials and API_KEY is set: a request can carry one of them")
    with reserved(options, plan.scenario) as folder:
        plan = replace(plan, name=folder.name)
        if not plan.model:
            plan = replace(plan, model=served_model(plan.target))
        [made] = asyncio.run(measure(plan))
        code = publish(made, blocks(made), plan.out)
    if made["interrupted"]:
        print("sluice: interrupted: the report has what was measured until then", file=sys.stderr)
        return INTERRUPTED
    return code


def read_plan(options: argparse.Namespace) -> Plan:
    """Return the plan that the options make. Raises InputError."""
    asked = {field.name: getattr(options, field.name) for field in fields(Plan)}
    given = {name: value for name, value in asked.items() if value is not None}
    return Plan(**{"name": options.scenario, "model": "", **given, **_of_stage(options.stage, given)})


def _of_stage(stage: Stage | None, given: dict[str, Any]) -> dict[str, str]:
    """Return what a stage says of itself, unless an option says otherwise."""
    if stage is None:
        return {}
    told = {"model": stage.model.name} | ({"node": stage.node.instance_type} if stage.node else {})
    return {"stage": stage.name, **{name: given.get(name, value) for name, value in told.items()}}


def compare(options: argparse.Namespace) -> int:
    """Print both reports side by side. Raises InputError."""
    a, b = report.read(options.a), report.read(options.b)
    found = compare_reports(a, b, options.tolerance)
    print(table(a, b, found))
    worse = [each.name for each in found if each.verdict == "worse"]
    print(f"\n**B is a regression**: {'; '.join(worse)}." if worse else "\nNothing got worse by more than noise.")
    return 1 if worse else 0


def parser() -> Parser:
    """Return the parser of the command line."""
    top = Parser(prog="python -m loadtest", description="Measure what a deployment sustains.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("run", help="run a scenario against a deployment and write a report")
    add_options(one)
    one.set_defaults(run=load)
    both = commands.add_parser("compare", help="say whether report B is worse than report A by more than noise")
    both.add_argument("a", type=Path, metavar="A", help="a report's folder, or its report.json")
    both.add_argument("b", type=Path, metavar="B")
    help_ = f"share of A by which times and rates may get worse; default: {TOLERANCE:g}"
    both.add_argument("--tolerance", type=number(0, 1), default=TOLERANCE, help=help_)
    both.set_defaults(run=compare)
    return top


if __name__ == "__main__":
    for number_ in (signal.SIGINT, signal.SIGTERM):  # who starts us in the background may ignore SIGINT
        signal.signal(number_, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
