"""Child processes that never outlive the launcher, and long steps that show they are alive."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from launcher.console import Problem, Progress

PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
LOOK = 0.2  # seconds between two looks at a step
# Before the first of these words in a log nobody knows why the command failed, after it many follow from it.
SIGNS_OF_FAILURE = ("No space left", "Killed signal", "CMake Error", "fatal error", "error:", "ERROR:")
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


@dataclass(frozen=True)
class Step:
    """A long command with a file for its output."""

    name: str
    command: Sequence[str | Path]
    log: Path
    env: Mapping[str, str]
    cwd: Path | None = None


def run_step(
    label: str, command: Sequence[str | Path], *, log: Path, env: Mapping[str, str], cwd: Path | None = None
) -> None:
    """Run a long command, its state on the screen and its output in `log`. Raises Problem when it fails."""
    run_steps(label, Step(label, command, log, env, cwd))


def run_steps(label: str, *steps: Step) -> None:
    """Run long commands side by side, their state on the screen. Raises Problem as soon as one fails."""
    with Progress(label) as progress, ExitStack() as stack:
        running = [(step, stack.enter_context(_running(step))) for step in steps]
        while any(child.poll() is None for _, child in running):
            _raise_failure(running)
            progress.show(_state(running))
            time.sleep(LOOK)
        _raise_failure(running)


@contextlib.contextmanager
def _running(step: Step) -> Iterator[subprocess.Popen[bytes]]:
    with step.log.open("wb") as output:
        child = spawn(step.command, death_signal=signal.SIGKILL, env=step.env, cwd=step.cwd, output=output)
    try:
        yield child
    finally:
        kill_session(child)


def _raise_failure(running: Sequence[tuple[Step, subprocess.Popen[bytes]]]) -> None:
    for step, child in running:
        if child.poll():
            raise Problem(f"{step.name} failed: {failure(step.log)} (all of it: {step.log})")


def _state(running: Sequence[tuple[Step, subprocess.Popen[bytes]]]) -> str:
    """Return a step's last line, or of several those that still run with its first word: ninja's count, a package."""
    if len(running) == 1:
        return last_line(running[0][0].log)
    return ", ".join(f"{step.name} {last_line(step.log).split()[0]}" for step, child in running if child.poll() is None)


def failure(log: Path) -> str:
    """Return the line of a failed command's log that says why, at most 160 characters of it."""
    lines = _tail(log, 1 << 16)
    for sign in SIGNS_OF_FAILURE:
        for number, line in enumerate(lines):
            if sign in line:
                return " ".join(lines[number : number + (2 if line.endswith(":") else 1)])[:160]
    return lines[-1][:160] if lines else "no output"


def last_line(log: Path) -> str:
    """Return the last line of a log that says something, at most 160 characters of it."""
    lines = _tail(log, 4096)
    return lines[-1][:160] if lines else "no output"


def _tail(log: Path, size: int) -> list[str]:
    """Return the lines in the last `size` bytes of a log that say something."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - size))
        lines = file.read().decode(errors="replace").replace("\r", "\n").splitlines()
    return [stripped for line in lines if (stripped := line.strip())]
