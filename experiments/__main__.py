"""`python -m experiments comparison|balancing|autoscaling|endurance|real-ramp`: each has its own options, see --help.

Exit code 0: every target was met. 1: one wasn't. 2: nothing was measured, and one sentence says why.
"""

import sys

from experiments.commands import run

COMMANDS = ("comparison", "balancing", "autoscaling", "endurance", "real-ramp")


def main(arguments: list[str]) -> int:
    """Run one experiment and return the exit code."""
    return run("experiments", COMMANDS, arguments, a_command="an experiment", result="report")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
