"""Child processes that never outlive the launcher, and long steps that show they are alive."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from launcher.console import Problem, Progress

PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
TETHER = Path(__file__).with_name("tether.py")


def adopt_orphans() -> None:
    """Become the parent of what this process's children leave behind, as process 1 of a container is anyway."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def spawn(
    command: Sequence[str | Path],
    *,
    death_signal: signal.Signals,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    output: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, so that a terminal's Ctrl-C reaches only the launcher.

    `death_signal` reaches it even when the launcher is killed with SIGKILL: strictly, when the calling thread
    ends. `output` takes its stdout and stderr. A command that can't be run exits with 1 and one line.
    """
    tether = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), str(int(death_signal))]
    return subprocess.Popen(
        [*tether, *command],
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def kill_session(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a child's session, the child included, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    with contextlib.suppress(ChildProcessError):
        while True:  # its orphans, ours since adopt_orphans()
            os.waitpid(-child.pid, 0)


def run_step(
    label: str, command: Sequence[str | Path], *, log: Path, env: Mapping[str, str], cwd: Path | None = None
) -> None:
    """Run a long command, its state on the screen and its output in `log`. Raises Problem when it fails."""
    with Progress(label) as progress, log.open("wb") as output:
        child = spawn(command, death_signal=signal.SIGKILL, env=env, cwd=cwd, output=output)
        try:
            while child.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=1)
                progress.show(last_line(log))
        finally:
            kill_session(child)
        if child.returncode:
            raise Problem(f"{label} failed: {last_line(log)} (all of it: {log})")


def last_line(log: Path) -> str:
    """Return the last line of a log that says something, at most 160 characters of it."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").replace("\r", "\n").splitlines()
    return next((line.strip()[:160] for line in reversed(lines) if line.strip()), "no output")
