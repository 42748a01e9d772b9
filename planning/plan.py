"""`python -m planning plan`: how many replicas of which instance a load needs."""

import argparse
import sys
from contextlib import redirect_stdout

from launcher.console import Progress
from planning import options as plan_options
from planning.options import Candidate, PlanRequest, read_options
from planning.report import Sizing, size, summary
from planning.search import first_guess, search, workers

add_options = plan_options.add_options


def run(options: argparse.Namespace) -> int:
    """Print the plan in Markdown and return 0. Raises InputError or ConfigError."""
    asked = read_options(options)
    print(summary(asked, [_size(asked, candidate) for candidate in asked.candidates]))
    return 0


def _size(asked: PlanRequest, candidate: Candidate) -> Sizing:
    guess = first_guess(asked.workload, candidate.stage, candidate.speeds)
    with redirect_stdout(sys.stderr), Progress(candidate.node.instance_type) as progress, workers() as pool:
        return size(asked, candidate, search(pool, asked.workload, guess, asked.slo, asked.seed, progress.show))
