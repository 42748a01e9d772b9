"""`python -m loadtest.experiments COMMAND`: each experiment has its own options, see --help.

Exit code 0: every target was met. 1: one wasn't.
"""

import sys

from command_line import Parser, add_commands, run
from launcher.console import Problem
from loadtest.loads import LoadFailed
from local_cluster.kubectl import ClusterError

COMMANDS = {
    "comparison": "run the ramp against Sluice and what others build, on the local cluster",
    "balancing": "compare ways to choose a pod, on the local cluster",
    "autoscaling": "compare autoscalers on one load, on the local cluster with KEDA",
    "endurance": "run soak or stress against Sluice on the local cluster",
    "judging": "have releases judged that are as good, and bad in known ways, on this machine",
    "real-ramp": "run the ramp against three systems with a real model, on this machine",
}


def main(arguments: list[str]) -> int:
    """Run one experiment and return the exit code."""
    parser = Parser(prog="python -m loadtest.experiments", description="Compare Sluice with what others build.")
    add_commands(parser, "loadtest.{}.experiment", COMMANDS, arguments)
    problems = (ClusterError, LoadFailed, Problem)
    return run(parser, arguments, *problems, interrupted="interrupted, so there is no report")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
