"""`python -m chaos breaks|cluster|hold|faults|cost|attack`: each has its own options, see --help.

Exit code 0: every target was met. 1: one wasn't. 2: nothing was measured, and one sentence says why.
"""

import signal
import sys
from importlib import import_module

from config import ConfigError
from demo.cluster import ClusterError
from launcher.console import Problem

COMMANDS = ("breaks", "cluster", "hold", "faults", "cost", "attack")


def main(arguments: list[str]) -> int:
    """Run one command and return the exit code."""
    if not arguments or arguments[0] not in COMMANDS:
        print(f"sluice: name a command: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        code: int = import_module(f"chaos.{arguments[0]}").main(arguments[1:])
    except (ClusterError, ConfigError, Problem) as problem:
        print(f"sluice: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sluice: interrupted, so there is no table", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what runs is ended, as after Ctrl-C
    sys.exit(main(sys.argv[1:]))
