"""`python -m planning plan --rate 4 …`: how many replicas of which instance; `validate`: compared with a real run.

Exit code 0: there is a plan, or the predictions are as good as they should be. 1: they aren't.
"""

import gc
import sys

from command_line import Parser, add_commands, run
from launcher.console import Problem

COMMANDS = {
    "plan": "say how many replicas of which instance a load needs",
    "validate": "measure real queues and predict them, into a report",
}


def main(arguments: list[str]) -> int:
    """Print the plan, or measure, and return the exit code."""
    parser = Parser(prog="python -m planning")
    add_commands(parser, "planning.{}", COMMANDS, arguments)
    return run(parser, arguments, Problem, interrupted="interrupted, so there is no plan")


if __name__ == "__main__":
    gc.set_threshold(1_000_000)  # a simulation makes few cycles and many objects: 2,000 replicas run twice as fast
    sys.exit(main(sys.argv[1:]))
