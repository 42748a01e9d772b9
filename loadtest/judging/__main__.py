"""`python -m loadtest.judging` asks a release questions, compares it with the one before, and says how sure that is.

Exit code 0: it has passed, or nothing is known of it, because others had the service's slots, or another release
answered. 1: it is bad. 2: it wasn't tried, for a reason that isn't the release's.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from command_line import InputError, Parser, number, read_stage, run
from loadtest.address import read_address
from loadtest.judging import smoke
from loadtest.judging.files import write
from loadtest.judging.record import Records, read_records
from loadtest.judging.smoke import Ending, Smoke
from loadtest.k6 import CannotRun
from loadtest.options import TARGET

RELEASES = 'which release answers must be of to count: of each model\'s pods, by its name, and of the fronts, by ""'


def main(arguments: list[str]) -> int:
    """Judge a release and return the exit code."""
    return run(parser(), arguments, CannotRun, interrupted="interrupted, so nothing is known of the release")


def judge(options: argparse.Namespace) -> int:
    """Ask, judge, and say what was found. Raises InputError and CannotRun."""
    if options.target.credentials and os.environ.get("API_KEY"):
        raise InputError("--target has credentials and API_KEY is set: a request can carry one of them")
    if options.report and not options.report.is_dir():
        raise InputError(f"--report {options.report} is no folder")
    judgement = asyncio.run(smoke.run(plan(options), live_records(options.live)))
    print("\n".join(f"- {each}" for each in judgement.sentences), flush=True)
    if options.report:
        write(judgement, options.report)
    return 1 if judgement.ending is Ending.BAD else 0


def plan(options: argparse.Namespace) -> Smoke:
    """Return what to ask, by the stage or the models that are named. Raises InputError."""
    names = ("timeout", "patience", "at_least", "at_most")
    more = {name: value for name in names if (value := getattr(options, name)) is not None}
    more |= {"api_key": os.environ.get("API_KEY", ""), "releases": options.releases}
    if options.stage and options.stage.api_keys and not (more["api_key"] or options.target.credentials):
        # Whoever forgot it is told so, and not that the release is bad.
        raise InputError(f"API_KEY is missing: {options.stage.name} lets nobody in without one")
    if options.stage:
        return Smoke.of(options.stage, options.target, **more)
    return Smoke(target=options.target, shapes=dict.fromkeys(options.model, ""), **more)


def live_records(text: str) -> Records:
    """Return what is known of the live release; nothing where another release's code has written it in another form."""
    try:
        return read_records(text)
    except ValueError as problem:
        print(f"sluice: --live is left out: {problem}", file=sys.stderr)
        return {}


def read_releases(text: str) -> dict[str, str]:
    """Return which release each model's pods are of. Raises ArgumentTypeError."""
    try:
        releases = json.loads(text)
    except ValueError:
        releases = None
    if not isinstance(releases, dict) or not all(isinstance(each, str) and each for each in releases.values()):
        raise argparse.ArgumentTypeError('must be JSON: {"": "the fronts\' release", "MODEL": "its pods\' release"}')
    return releases


def parser() -> Parser:
    """Return the parser of the command line."""
    top = Parser(prog="python -m loadtest.judging", description="Say whether a release is good, and how sure that is.")
    add, seconds = top.add_argument, number(0.001, 3600, of="seconds")
    add("--target", type=read_address, required=True, metavar="URL", help=TARGET)
    what = top.add_mutually_exclusive_group(required=True)
    what.add_argument("--stage", type=read_stage, help="what is asked: its model, for as long as it says")
    what.add_argument("--model", nargs="+", metavar="NAME", help="or these models, by their names in Ollama")
    add("--live", default="", metavar="JSON", help="the release before it, as this command has described it")
    add("--releases", type=read_releases, default={}, metavar="JSON", help=RELEASES)
    add("--report", type=Path, metavar="DIR", help="a folder for report.json, summary.md and outputs")
    add("--timeout", type=seconds, metavar="S", help="a client's patience; default: the stage's")
    add("--patience", type=number(0, 3600, of="seconds"), metavar="S", help="how long to wait for a load balancer")
    add("--at-least", type=seconds, metavar="S", help="how long a good release is asked too; default: the stage's")
    add("--at-most", type=seconds, metavar="S", help="until there must be a verdict; default: the stage's")
    top.set_defaults(run=judge)
    return top


if __name__ == "__main__":
    for number_ in (signal.SIGINT, signal.SIGTERM):  # who starts us in the background may ignore SIGINT
        signal.signal(number_, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
