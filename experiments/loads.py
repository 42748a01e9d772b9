"""Runs of `python -m loadtest`, several at the same time, each against a system of its own."""

import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from command_line import InputError
from experiments.stages import STAND_IN
from launcher.console import say
from loadtest.report import Report, read
from local_cluster.kubectl import ROOT


class LoadFailed(Exception):
    """A run left no report; the message is its last line."""


class Target(NamedTuple):
    """Where a system answers, and in which API's words."""

    url: str
    api: str


def ramps(
    targets: Mapping[str, Target], *, scale: float, model: str = STAND_IN.name, options: Mapping[str, str] | None = None
) -> dict[str, Report]:
    """Run the ramp against every target at once and return the reports; scale multiplies every time.

    options: more of `python -m loadtest run`, by their names. Without the stream of tokens that runs alongside, which
    one of the APIs doesn't have. Raises LoadFailed.
    """
    more = {"scenario": "ramp", "model": model, "time-scale": f"{scale:g}", **(options or {})}
    with TemporaryDirectory() as folder:
        runs = {name: _start(name, target, Path(folder), more) for name, target in targets.items()}
        try:
            readers = [_show(name, run) for name, run in runs.items()]
            for run, reader in zip(runs.values(), readers, strict=True):
                run.wait()
                reader.join()
        finally:
            for run in runs.values():
                run.terminate()
            for run in runs.values():
                run.wait()  # it may still write what it has measured into the folder, which goes
        try:
            return {name: read(Path(folder) / name) for name in targets}
        except InputError as problem:
            raise LoadFailed(f"a run left no report: {problem}") from None


def _start(name: str, target: Target, out: Path, options: Mapping[str, str]) -> subprocess.Popen[str]:
    where = {"target": target.url, "api": target.api, "name": name, "out": str(out)}
    command = [sys.executable, "-m", "loadtest", "run", "--no-probe"]
    command += [text for option, value in (where | dict(options)).items() for text in (f"--{option}", value)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _show(name: str, run: subprocess.Popen[str]) -> threading.Thread:
    """Print what a run prints, with its name before it."""

    def follow() -> None:
        with run:
            for line in run.stdout or ():
                if line.strip():
                    say(f"{name}: {line.rstrip()}")

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    return thread
