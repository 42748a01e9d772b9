"""How `python -m PACKAGE COMMAND …` runs: a module of the package for each, one sentence for what went wrong.

Exit code 2 where nothing was measured, 130 after Ctrl-C, else the command's own.
"""

import sys
from collections.abc import Sequence
from importlib import import_module

from config import ConfigError
from experiments.loads import LoadFailed
from launcher.console import Problem
from local_cluster.kubectl import ClusterError


def run(package: str, commands: Sequence[str], arguments: list[str], *, a_command: str, result: str) -> int:
    """Run the command that the first argument names and return the exit code.

    a_command, result: what such a command is called, and what it would have made.
    """
    if not arguments or arguments[0] not in commands:
        print(f"sluice: name {a_command}: {', '.join(commands)}", file=sys.stderr)
        return 2
    try:
        code: int = import_module(f"{package}.{arguments[0].replace('-', '_')}").main(arguments[1:])
    except (ClusterError, ConfigError, LoadFailed, Problem) as problem:
        print(f"sluice: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"sluice: interrupted, so there is no {result}", file=sys.stderr)
        return 130
    return code
