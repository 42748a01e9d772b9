"""The programs that are measured, each in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tests.servers import ROOT, fetch, free_port
from tests.stand_in import MODEL, eventually

LITELLM = "litellm[proxy]==1.106.2"
NAIVE = ["--with", "flask==3.1.3", "--with", "ollama==0.6.3"]


@contextmanager
def running(command: list[str], log: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends, its output in a file."""
    with log.open("wb") as out:
        process = spawn(command, out, environ)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def spawn(command: list[str], out: IO[bytes], environ: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a program from the repository's root."""
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | environ, stdout=out, stderr=subprocess.STDOUT)


def answers(url: str, body: Any = None) -> bool:
    """Say whether a URL answers 200."""
    try:
        return fetch(url, body, {"Content-Type": "application/json"}).status == 200
    except OSError:
        return False


@contextmanager
def stand_in(tokens: int, first_delay: float = 0, token_delay: float = 0) -> Iterator[str]:
    """Run the stand-in for Ollama and yield its URL; delays in seconds."""
    port = free_port()
    command = [sys.executable, "-m", "tests.stand_in", *map(str, (port, tokens, first_delay, token_delay))]
    with running(command, scratch() / "stand-in.log"):
        eventually(lambda: answers(f"http://127.0.0.1:{port}/api/ps"))
        yield f"http://127.0.0.1:{port}"


@contextmanager
def naive(ollama: str) -> Iterator[str]:
    """Run the naive app in front of Ollama and yield its URL."""
    port = free_port()
    command = [uv(), "run", "--no-project", *NAIVE, "python", "bench/naive.py", str(port)]
    with running(command, scratch() / "naive.log", OLLAMA_HOST=ollama, MODEL=MODEL):
        eventually(lambda: answers(f"http://127.0.0.1:{port}/generate", {"prompt": "x"}), 120)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def litellm(ollama: str) -> Iterator[str]:
    """Run LiteLLM's proxy in front of Ollama and yield its URL."""
    port, config = free_port(), scratch() / "litellm.json"
    served = {"model_name": MODEL, "litellm_params": {"model": f"ollama_chat/{MODEL}", "api_base": ollama}}
    config.write_text(json.dumps({"model_list": [served]}))  # its YAML reader reads JSON too
    arguments = ["--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
    command = [uv(), "tool", "run", "--from", LITELLM, "litellm", *arguments]
    environ = {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true", "LITELLM_LOG": "ERROR"}
    with running(command, scratch() / "litellm.log", **environ):
        eventually(lambda: answers(f"http://127.0.0.1:{port}/health/liveliness"), 300)
        yield f"http://127.0.0.1:{port}"


def uv() -> str:
    """Return uv's path; `make` sets UV."""
    return os.environ.get("UV") or shutil.which("uv") or "uv"


def scratch() -> Path:
    """Return the folder for the logs of this run."""
    folder = Path(tempfile.gettempdir()) / "sluice-bench"
    folder.mkdir(exist_ok=True)
    return folder
