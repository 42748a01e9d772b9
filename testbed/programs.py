"""Programs that are measured or measure, each in a process of its own."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from testbed import ROOT
from testbed.fetching import status
from testbed.ports import free_port
from testbed.waiting import eventually

STAND_IN = [sys.executable, "-m", "testbed.stand_in", "serve"]


@contextmanager
def running(command: list[str], log: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program from the repository's root until the block ends, its output in a file."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environ, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def stand_in(kind: str, *, slots: int = 1, **figures: float) -> Iterator[str]:
    """Run a stand-in for Ollama until the block ends, and yield its URL; kind, figures: see testbed/stand_in."""
    port = free_port()
    environ = {f"ENGINE_{name.upper()}": str(value) for name, value in figures.items()}
    environ |= {"ENGINE": kind, "OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_NUM_PARALLEL": str(slots)}
    with running(STAND_IN, scratch() / f"stand-in-{port}.log", **environ):
        eventually(lambda: status(f"http://127.0.0.1:{port}/") == 200, 60)
        yield f"http://127.0.0.1:{port}"


@cache
def scratch() -> Path:
    """Return the folder for the logs of this run, which goes when the run ends."""
    folder = tempfile.mkdtemp(prefix="sluice-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
