"""`python -m planning plan --rate 4 …`: how many replicas of which instance; `validate`: the same beside a real run."""

import argparse
import gc
import sys

from config import ConfigError
from launcher.console import Problem
from planning.options import Asked, Candidate, add_options, read_options
from planning.report import Row, markdown, row
from planning.search import first_guess, search, workers


def main(arguments: list[str]) -> None:
    """Print the plan, or measure; bad input ends with one sentence."""
    parser = argparse.ArgumentParser(prog="python -m planning")
    commands = parser.add_subparsers(dest="command", required=True)
    add_options(commands.add_parser("plan", help="say how many replicas of which instance a load needs"))
    measuring = commands.add_parser("validate", help="measure real queues beside predicted ones, into a report")
    measuring.add_argument("--seconds", default="45", metavar="S", help="of each measured run (default: 45)")
    measuring.add_argument("--seed", default="1", metavar="N", help="of the arrivals and lengths (default: 1)")
    measuring.add_argument("--out", default="loadtest/reports", metavar="FOLDER", help="the report goes to FOLDER/plan")
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "plan":
            print(plan(read_options(asked)))
        else:
            from planning.validate import validate  # draws, and starts Node: a plan needs neither

            validate(asked)
    except (ConfigError, Problem) as error:
        sys.exit(f"sluice: {error}")


def plan(asked: Asked) -> str:
    """Return the plan in Markdown."""
    return markdown(asked, [_row(asked, candidate) for candidate in asked.candidates])


def _row(asked: Asked, candidate: Candidate) -> Row:
    print(f"{candidate.node.instance_type} …", file=sys.stderr, flush=True)
    guess = first_guess(asked.workload, candidate.stage, candidate.speeds)
    with workers() as pool:
        return row(asked, candidate, search(pool, asked.workload, guess, asked.slo, asked.seed))


if __name__ == "__main__":
    gc.set_threshold(1_000_000)  # a simulation makes few cycles and many objects: 2,000 replicas run twice as fast
    main(sys.argv[1:])
