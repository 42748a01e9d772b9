"""`python -m cost --stage prod`: a table in Markdown, as it stands on pull requests, or JSON."""

import argparse
import sys

from command_line import Parser, add_region, number, read_stage, region, run
from cost.estimate import estimate, savings
from cost.prices import Prices
from cost.report import CostReport

# The predecessor's mean, with one slot a pod. Slots share a pod's CPUs: with more of them each generation takes longer.
SECONDS_PER_GENERATION = 12


def main(arguments: list[str]) -> int:
    """Print the report and return the exit code."""
    return run(parser(), arguments)


def parser() -> Parser:
    """Return the command line."""
    made = Parser(prog="python -m cost", description="What a stage costs on AWS.")
    made.add_argument("--stage", type=read_stage, required=True)
    add_region(made)
    made.add_argument(
        "--seconds-per-generation",
        type=seconds_of,
        action="append",
        metavar="[MODEL=]SECONDS",
        help=f"again for another model; default: {SECONDS_PER_GENERATION}",
    )
    made.add_argument("--json", action="store_true")
    made.set_defaults(run=show)
    return made


def seconds_of(text: str) -> tuple[str, float]:
    """Read the seconds of a generation, and the model they are of: "" for all that nothing else is said of."""
    model, _, seconds = text.rpartition("=")
    return model, number(0.001, 86_400, of="seconds")(seconds)


def show(options: argparse.Namespace) -> int:
    """Print what the stage costs. Raises ConfigError."""
    stage, prices = options.stage, Prices(region(options.region))
    lines, given = estimate(stage, prices), dict(options.seconds_per_generation or ())
    seconds = given.pop("", SECONDS_PER_GENERATION)
    of_models = {stage.of(name).model.name: value for name, value in given.items()}
    saved = savings(stage, prices)
    report = CostReport(stage=stage, prices=prices, seconds=seconds, lines=lines, savings=saved, seconds_of=of_models)
    print(report.as_json() if options.json else report.as_markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
