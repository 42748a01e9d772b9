"""`python -m experiments comparison|balancing|autoscaling|endurance`: each has its own options, see --help.

Exit code 0: every target was met. 1: one wasn't. 2: nothing was measured, and one sentence says why.
"""

import sys
from importlib import import_module

from config import ConfigError
from demo.cluster import ClusterError
from experiments.loads import LoadFailed

COMMANDS = ("comparison", "balancing", "autoscaling", "endurance")


def main(arguments: list[str]) -> int:
    """Run one experiment and return the exit code."""
    if not arguments or arguments[0] not in COMMANDS:
        print(f"sluice: name an experiment: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        code: int = import_module(f"experiments.{arguments[0]}").main(arguments[1:])
    except (ClusterError, ConfigError, LoadFailed) as problem:
        print(f"sluice: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sluice: interrupted, so there is no report", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
