import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from launcher.small_model import SMALL_MODEL
from testbed import ROOT
from testbed.ports import free_ports
from testbed.real_ollama import models_dir
from testbed.waiting import eventually
from tests.support.launched import Launch, Launched
from tests.support.needs import RunOllama


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Return a function that starts the launcher on free ports, with the settings given as variables."""
    with ExitStack() as stack:

        def start(**variables: str) -> Launched:
            public, private, own = free_ports(3)
            ports = {"PORT": str(public), "PRIVATE_PORT": str(private)}
            ollama = {"OLLAMA_HOST": f"127.0.0.1:{own}", "OLLAMA_MODELS": str(models_dir())}
            # One thread: two crawl, each waiting for the other, where other tests want the CPUs as well.
            patient = {"GENERATION_TIMEOUT": "600", "THREADS": "1"}
            environ = {**os.environ, **ports, **ollama, **patient, "MODEL": SMALL_MODEL, **variables}
            log = tmp_path / "log"
            with log.open("wb") as out:
                command = [sys.executable, "-m", "launcher"]
                process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=out, stderr=subprocess.STDOUT)
            stack.callback(process.wait, 30)
            stack.callback(process.send_signal, signal.SIGINT)
            return Launched(process, environ, log)

        yield start


@pytest.fixture
def launched(real_ollama: RunOllama, launch: Launch) -> Launched:
    """Return a launcher that serves the real small model."""
    service = launch()
    eventually(lambda: service.ready(), 900)  # the first time it may have to build Ollama
    return service
