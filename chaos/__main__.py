"""`python -m chaos COMMAND`: each command has its own options, see --help.

Exit code 0: every target was met. 1: one wasn't.
"""

import signal
import sys

from command_line import Parser, add_commands, run
from launcher.console import Problem
from local_cluster.kubectl import ClusterError

COMMANDS = {
    "breaks": "break things on this machine, one after the other, under an honest load",
    "cluster": "break things on the local cluster, one after the other, under an honest load",
    "hold": "measure what honest callers get while thousands of slow connections are open",
    "faults": "bring about random faults of callers and of the engine, drawn from a seed",
    "cost": "measure what one request costs the gateway, in memory and in seconds of CPU",
    "attack": "be thousands of slow callers, of a server of one's own",
}


def main(arguments: list[str]) -> int:
    """Run one command and return the exit code."""
    parser = Parser(prog="python -m chaos", description="Break things under load, and attack.")
    add_commands(parser, "chaos.{}", COMMANDS, arguments)
    return run(parser, arguments, ClusterError, Problem, interrupted="interrupted, so there is no table")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what runs is ended, as after Ctrl-C
    sys.exit(main(sys.argv[1:]))
