"""The service's image with the stand-in in place of Ollama."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from launcher.console import say
from testbed import ROOT
from testbed.docker import docker

DOCKERFILE = """FROM {base}
COPY testbed /opt/testbed
COPY ollama /usr/bin/ollama
ENV {variables}
"""
OLLAMA = '#!/bin/sh\nPYTHONPATH=/opt exec python3 -m testbed.stand_in "$@"\n'


def build_stand_in(base: str, tag: str, variables: Mapping[str, str]) -> None:
    """Build the image `tag`: the image `base` with the stand-in, set by these variables. Raises Problem."""
    say("building the image with the stand-in engine")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        fill(folder)
        named = " ".join(f"{name}={value}" for name, value in variables.items())
        (folder / "Dockerfile").write_text(DOCKERFILE.format(base=base, variables=named))
        docker("build", "--tag", tag, str(folder))


def fill(folder: Path) -> None:
    """Put into a folder what the image gets: the program `ollama`, and the package that it runs."""
    compiled = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "testbed/stand_in", folder / "testbed/stand_in", ignore=compiled)
    shutil.copy(ROOT / "testbed/__init__.py", folder / "testbed")
    (folder / "ollama").write_text(OLLAMA)
    (folder / "ollama").chmod(0o755)
