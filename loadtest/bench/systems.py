"""The gateway, and what it is compared with, each in a process of its own."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from testbed.fetching import fetch
from testbed.gateway import Served, serve
from testbed.ports import free_port
from testbed.programs import running, scratch
from testbed.stand_in import MODEL
from testbed.waiting import eventually

LITELLM = "litellm[proxy]==1.106.2"
NAIVE_PACKAGES = ["--with", "flask==3.1.3", "--with", "ollama==0.6.3"]


def answers(url: str, body: Any = None) -> bool:
    """Say whether a URL answers 200."""
    try:
        return fetch(url, body, {"Content-Type": "application/json"}).status == 200
    except OSError:
        return False


def naive_command(port: int) -> list[str]:
    """Return the command that runs the naive app; OLLAMA_HOST and MODEL say what it asks."""
    file = Path(__file__).with_name("naive.py")
    return [uv(), "run", "--no-project", *NAIVE_PACKAGES, "python", str(file), str(port)]


@contextmanager
def naive(ollama: str) -> Iterator[str]:
    """Run the naive app in front of Ollama and yield its URL."""
    port = free_port()
    with running(naive_command(port), scratch() / "naive.log", OLLAMA_HOST=ollama, MODEL=MODEL):
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


@contextmanager
def gateway(ollama: str, model: str = MODEL, **settings: object) -> Iterator[Served]:
    """Run the gateway, warmed up by a few requests."""
    with serve(ollama, scratch() / "gateway.log", model=model, **settings) as served:
        for _ in range(20):
            fetch(f"{served.url}/generate", {"prompt": "x", "max_tokens": 1})
        yield served


def keys_file(names: Iterable[str]) -> Path:
    """Write a file with API keys; the key of each is its name."""
    file = scratch() / "keys.toml"
    file.write_text("".join(f'[{name}]\nsha256 = "{sha256(name.encode()).hexdigest()}"\n' for name in names))
    return file
