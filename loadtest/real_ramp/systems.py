"""The three systems of the real ramp as they run on one machine: the naive app, Ollama as it comes, and Sluice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.cache import cache_dir
from launcher.console import Problem
from launcher.find_model import find_model
from launcher.find_ollama import find_ollama
from launcher.ollama_calls import OllamaError, answers, call
from launcher.processes import kill_session, last_line, spawn
from launcher.small_model import SMALL_MODEL
from loadtest.bench.systems import naive_command
from loadtest.loads import Endpoint
from local_cluster.kubectl import ROOT
from testbed.fetching import status
from testbed.ports import free_port, free_ports

START_TIMEOUT, STOP_TIMEOUT = 180.0, 20.0  # seconds
PORTS = ("PORT", "PRIVATE_PORT", "OLLAMA_HOST")
# What a user may have set for an Ollama of their own; Ollama by its defaults has none of it.
TUNING = ("OLLAMA_", "LLAMA_ARG_", "GOGC", "GOMEMLIMIT")
MODEL = f"{SMALL_MODEL}-ramp"
ANSWER_TOKENS = 96  # as many as bench/ lets the real model generate
# Every answer ends at the same token: none of them has a stop word, and the seed is that of the model.
PARAMETERS = {"seed": 1, "num_predict": ANSWER_TOKENS, "stop": []}


@dataclass(frozen=True)
class System:
    """A system that runs: where it answers, the processes it began with, and Ollama's log."""

    target: Endpoint
    roots: tuple[int, ...]
    log: Path


@contextmanager
def ollama(folder: Path, store: Path) -> Iterator[System]:
    """Run Ollama with no setting but its address and its model store. Raises Problem."""
    port = free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(TUNING)}
    # At its start Ollama deletes what a download has left in the store, which others may be filling.
    environ |= {"OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_MODELS": str(store), "OLLAMA_NOPRUNE": "1"}
    url, log = f"http://127.0.0.1:{port}", folder / "ollama.log"
    with _running([str(find_ollama(os.environ)), "serve"], environ, log, lambda: answers(url)) as process:
        yield System(Endpoint(url, "ollama"), (process.pid,), log)


@contextmanager
def naive(folder: Path, store: Path) -> Iterator[System]:
    """Run the naive app on Flask's development server, in front of Ollama with its defaults. Raises Problem."""
    with ollama(folder, store) as behind:
        port = free_port()
        environ = {**os.environ, "OLLAMA_HOST": behind.target.url, "MODEL": MODEL}
        url = f"http://127.0.0.1:{port}"
        with _running(naive_command(port), environ, folder / "naive.log", lambda: status(url) == 404) as process:
            yield System(Endpoint(url, "naive"), (*behind.roots, process.pid), behind.log)


@contextmanager
def sluice(folder: Path, store: Path, deadlines: Mapping[str, str] | None = None) -> Iterator[System]:
    """Run what `make serve` runs, with the caller's environment and these deadlines. Raises Problem."""
    port, private, engine = free_ports(3)
    environ = {**os.environ, **(deadlines or {}), "PORT": str(port), "PRIVATE_PORT": str(private), "MODEL": MODEL}
    environ |= {"OLLAMA_HOST": f"http://127.0.0.1:{engine}", "OLLAMA_MODELS": str(store)}
    command = [sys.executable, "-m", "launcher"]
    readyz = f"http://127.0.0.1:{private}/readyz"
    with _running(command, environ, folder / "sluice.log", lambda: status(readyz) == 200) as process:
        log = cache_dir(os.environ) / "ollama.log"
        yield System(Endpoint(f"http://127.0.0.1:{port}", "sluice"), (process.pid,), log)


SYSTEMS: Mapping[str, Callable[..., Any]] = {"naive": naive, "ollama": ollama, "sluice": sluice}


def prepare_model(url: str) -> str:
    """Have the Ollama at `url` hold the model of the ramp, and return Ollama's version. Raises Problem."""
    find_model(url, SMALL_MODEL, os.environ)
    try:
        call(url, "/api/create", {"model": MODEL, "from": SMALL_MODEL, "parameters": PARAMETERS}, timeout=60)
        return str(call(url, "/api/version", timeout=10).get("version"))
    except OllamaError as error:
        raise Problem(f"Ollama can't make the model {MODEL}: {error.text}") from error


@contextmanager
def _running(
    command: list[str], environ: Mapping[str, str], log: Path, ready: Callable[[], bool]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends; the block begins when the program is ready. Raises Problem."""
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        process = spawn(command, death_signal=signal.SIGINT, env=environ, cwd=ROOT, output=output)
        stack.callback(_stop, process)
        until = time.monotonic() + START_TIMEOUT
        while not ready():
            if process.poll() is not None or time.monotonic() > until:
                raise Problem(f"{' '.join(command[:4])} … isn't ready: {last_line(log)}")
            time.sleep(0.1)
        yield process


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT)
    kill_session(process)
