"""Become a command that gets a signal when its parent dies: `python tether.py PARENT SIGNAL COMMAND ...`.

A program of its own because code that runs between fork and exec isn't safe in a process with threads.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main(parent: int, death_signal: int, command: list[str]) -> None:
    """Ask the kernel for the signal, then run `command` in this process; exit 1 when it can't be run."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call above
        sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        sys.exit(f"{command[0]} can't be started: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
