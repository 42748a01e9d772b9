"""`python -m chaos breaks|cluster|hold|faults|cost|attack`: each has its own options, see --help.

Exit code 0: every target was met. 1: one wasn't. 2: nothing was measured, and one sentence says why.
"""

import signal
import sys

from experiments.commands import run

COMMANDS = ("breaks", "cluster", "hold", "faults", "cost", "attack")


def main(arguments: list[str]) -> int:
    """Run one command and return the exit code."""
    return run("chaos", COMMANDS, arguments, a_command="a command", result="table")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what runs is ended, as after Ctrl-C
    sys.exit(main(sys.argv[1:]))
