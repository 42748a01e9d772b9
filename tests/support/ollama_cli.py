"""Ollama's own command line against the gateway."""

import os
import shutil
import subprocess
from typing import Any

from testbed.gateway import Served
from testbed.tools import missing


def command(served: Served, *arguments: str) -> dict[str, Any]:
    """Return how to start Ollama's CLI against the gateway."""
    if not (program := shutil.which("ollama")):
        missing("ollama is missing: it comes with the image that .ci/run takes it from")
    home = {"HOME": str(served.log.parent)}  # where it keeps what was typed
    return {
        "args": [program, *arguments],
        "env": {**os.environ, **home, "OLLAMA_HOST": served.url.removeprefix("http://"), "TERM": "xterm"},
    }


def cli(served: Served, *arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    """Run Ollama's CLI against the gateway, with `said` on its standard input."""
    started = command(served, *arguments)
    return subprocess.run(**started, input=said, capture_output=True, text=True, timeout=60, check=False)
