"""Run every measure and rewrite its part of docs/benchmarks.md; with names as arguments, only print these rows."""

import argparse
import sys

from command_line import Parser, one_of, run
from loadtest.bench.billing import billing
from loadtest.bench.cost import added_latency, dialects, memory, streaming, throughput, traces
from loadtest.bench.http_clients import http_clients
from loadtest.bench.overload import fair_shares, killers, leaving, overload, two_models
from loadtest.bench.real import leaving_real, parallel, real_model
from loadtest.reporting.part import publish
from loadtest.reporting.target import Target, all_passed, targets_table

MEASURES = (
    *(added_latency, traces, throughput, dialects, streaming, real_model, parallel, overload, leaving),
    *(leaving_real, memory, killers, fair_shares, two_models, billing),
)
BY_NAME = {measure.__name__.replace("_", "-"): measure for measure in (*MEASURES, http_clients)}
NOTE = (
    "The stand-in is `testbed/stand_in/`, an Ollama without a model; the real model is the 270M Gemma from PyPI. Load "
    "generator, gateway and model shared the CPUs, so compare within a row, not with other machines. Requests to both "
    "sides of a row were sent in turn or one after the other in the same run."
)


def main(arguments: list[str]) -> int:
    """Run the measures and return the exit code."""
    parser, names = Parser(prog="python -m loadtest.bench"), list(BY_NAME)
    parser.add_argument("measures", nargs="*", type=one_of(names), help=f"any of {', '.join(names)}; default: all")
    parser.set_defaults(run=measure_all)
    return run(parser, arguments)


def measure_all(options: argparse.Namespace) -> int:
    """Run the measures; a missed target gives 1, after everything was measured."""
    chosen = [BY_NAME[name] for name in options.measures or BY_NAME]
    targets: list[Target] = []
    for measure in chosen:
        print(f"{measure.__name__} …", file=sys.stderr, flush=True)
        for target in measure():
            targets.append(target)
            print(targets_table([target]).body().splitlines()[-1], file=sys.stderr, flush=True)
    rewrite = not options.measures
    publish("benchmarks.md", "bench", targets_table(targets), command="make bench", note=NOTE, rewrite=rewrite)
    return 0 if all_passed(targets) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
