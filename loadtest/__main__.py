"""`python -m loadtest run` measures a deployment and writes a report; `compare` puts two reports side by side.

Exit code 0: as it should be. 1: a threshold is broken or the run is invalid; the second report is a regression.
2: nothing was measured or compared, and one sentence says why.
"""

import argparse
import asyncio
import math
import signal
import sys
from dataclasses import replace
from pathlib import Path

from config import ConfigError, find_stage
from launcher.arguments import Parser
from loadtest import report
from loadtest.compare import TOLERANCE, table
from loadtest.compare import compare as compare_reports
from loadtest.k6 import CannotRun
from loadtest.plan import APIS, SLO, TIMEOUT, InputError, Plan
from loadtest.run import measure
from loadtest.scenarios import SCENARIOS
from loadtest.served import served_model
from loadtest.write import write

REPORTS = Path("loadtest/reports")
INTERRUPTED = 130


def main(arguments: list[str]) -> int:
    """Run one command and return the exit code."""
    options = parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except (InputError, CannotRun, ConfigError) as problem:
        print(f"sluice: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sluice: interrupted, so there is no report", file=sys.stderr)
        return INTERRUPTED
    return code


def run(options: argparse.Namespace) -> int:
    """Measure, and write the report."""
    values = {name: value for name, value in vars(options).items() if name != "run" and value is not None}
    plan = Plan(**{"name": options.scenario, "model": "", **_of_stage(options.stage), **values})
    if not plan.model:
        plan = replace(plan, model=served_model(plan.target))
    made = asyncio.run(measure(plan))
    folder = write(made, plan.out)
    print((folder / "summary.md").read_text())
    print(f"The whole report is {folder / 'report.html'}.")
    return 0 if made["valid"] and all(threshold["kept"] for threshold in made["thresholds"]) else 1


def _of_stage(name: str | None) -> dict[str, str]:
    """Return what a stage says of itself."""
    if name is None:
        return {}
    stage = find_stage(name)
    return {"model": stage.model.name} | ({"node": stage.node.instance_type} if stage.node else {})


def compare(options: argparse.Namespace) -> int:
    """Print both reports side by side."""
    if not 0 <= options.tolerance < 1:
        raise InputError(f"--tolerance {options.tolerance} is out of range: 0 up to 1 is allowed")
    a, b = report.read(options.a), report.read(options.b)
    rows = compare_reports(a, b, options.tolerance)
    print(table(a, b, rows))
    worse = [row.name for row in rows if row.verdict == "worse"]
    print(f"\n**B is a regression**: {'; '.join(worse)}." if worse else "\nNothing got worse by more than noise.")
    return 1 if worse else 0


def parser() -> Parser:
    """Return the parser of the command line."""
    top = Parser(prog="python -m loadtest", description="Measure what a deployment holds.")
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    load = commands.add_parser("run", help="run a scenario against a deployment and write a report")
    load.set_defaults(run=run)
    add = load.add_argument
    add("--scenario", required=True, help=f"one of {', '.join(SCENARIOS)}")
    add(
        "--target",
        required=True,
        metavar="URL",
        help="address of the deployment; API_KEY in the environment if it has keys",
    )
    add(
        "--model",
        help="the model that must answer, by its name in Ollama; default: the stage's, else what Sluice serves",
    )
    add("--name", help="folder of the report; default: the scenario")
    add("--out", type=Path, default=REPORTS, metavar="DIR", help=f"where that folder is; default: {REPORTS}")
    add("--api", help=f"what the target speaks: {', '.join(APIS)}; default: sluice")
    add("--rate", type=number, help="questions a second, of which step, spike and stress ask several times as many")
    add("--users", type=whole, help="users at most: of ramp 15, else enough for the rate")
    add("--minutes", type=number, help="how long instead of the scenario's own time")
    add("--time-scale", type=number, metavar="F", help="multiplies every time, patience and SLO too; default: 1")
    add("--timeout", type=number, metavar="S", help=f"seconds a client waits for one attempt; default: {TIMEOUT:g}")
    add("--slo", type=number, metavar="S", help=f"seconds within which an answer is good; default: {SLO:g}")
    add("--retries", type=whole, help="how often a question is asked again; default: 3")
    add("--warm-up", type=whole, help="questions before it counts, all at once; default: 4")
    add("--max-tokens", type=whole, help="longest answer; default: the target's own")
    add("--probe", action=argparse.BooleanOptionalAction, help="one stream at a time beside the scenario; default: yes")
    add("--namespace", metavar="NS", help="sample replicas and queue there with kubectl")
    add("--stage", help="the stage that the target is, for its model, and for the report")
    add("--digest", help="for the report: the image that runs there")
    add("--node", help="for the report: what it runs on; default: the stage's")
    add("--note", help="for the report: what else a reader must know, such as what was simulated")
    both = commands.add_parser("compare", help="say whether report B is worse than report A by more than noise")
    both.set_defaults(run=compare)
    both.add_argument("a", type=Path, metavar="A", help="a report's folder, or its report.json")
    both.add_argument("b", type=Path, metavar="B")
    help_ = f"share of A by which times and rates may get worse; default: {TOLERANCE:g}"
    both.add_argument("--tolerance", type=number, default=TOLERANCE, help=help_)
    return top


def number(text: str) -> float:
    """Return the number in an option."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def whole(text: str) -> int:
    """Return the whole number in an option."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts us in the background may ignore it
    # k6 ends with us. asyncio takes SIGINT in its loop; a KeyboardInterrupt for SIGTERM could break in anywhere in it.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    sys.exit(main(sys.argv[1:]))
