"""The images of the experiments: the stand-in engine in place of Ollama, no weights, and the naive predecessor."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from config import IMAGE_REPOSITORY, LOCAL, WEIGHTS_REPOSITORY
from local_cluster.images import build_gateway, build_options, push, push_proxy
from local_cluster.kubectl import ROOT, run
from testbed.image import build_stand_in

TAG = "experiments"
WEIGHTS = "FROM scratch\nCOPY none /\n"
# loadtest/bench/naive.py as the predecessor's image had it: Flask's development server and Ollama's client from PyPI.
NAIVE = """ARG BASE_IMAGE=debian:trixie-slim
FROM ${BASE_IMAGE}
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv && python3 -m venv /venv \\
    && /venv/bin/pip install --no-cache-dir flask==3.1.3 ollama==0.6.3
WORKDIR /app
COPY loadtest loadtest
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
CMD ["/venv/bin/python", "-m", "loadtest.on_cluster.naive_page"]
"""


def engine_image(*, seconds: float, variation: float, load_seconds: float = 0, cpus: float = 0) -> str:
    """Build the gateway's image with the stand-in engine, push it and HAProxy's, and return its digest.

    seconds, variation: mean and relative deviation of the service time; load_seconds, cpus: see testbed's Timed.
    """
    build_gateway(TAG)
    push_proxy()
    figures = {
        "ENGINE_SECONDS": seconds,
        "ENGINE_VARIATION": variation,
        "ENGINE_LOAD_SECONDS": load_seconds,
        "ENGINE_CPUS": cpus,
    }
    base = f"{LOCAL.registry}/{IMAGE_REPOSITORY}:{TAG}"
    build_stand_in(base, f"{base}-engine", {name: f"{value:g}" for name, value in figures.items()})
    return push(f"{base}-engine")


def no_weights() -> str:
    """Build the image that a pod mounts where the weights would be, and return its digest."""
    return _build(f"{WEIGHTS_REPOSITORY}:{TAG}", WEIGHTS, [])


def naive_image() -> str:
    """Build the naive predecessor's image and return its reference."""
    files = ["loadtest/bench/naive.py", "loadtest/on_cluster/naive_page.py"]
    return f"{LOCAL.registry}/sluice/naive@{_build(f'sluice/naive:{TAG}', NAIVE, files, build_options())}"


def reference(digest: str) -> str:
    """Return the engine's image as a pod names it."""
    return f"{LOCAL.registry}/{IMAGE_REPOSITORY}@{digest}"


def _build(name: str, dockerfile: str, files: Sequence[str], options: Sequence[str] = ()) -> str:
    """Build an image of a Dockerfile's text and a few of the repository's files, push it, and return its digest."""
    tagged = f"{LOCAL.registry}/{name}"
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "Dockerfile").write_text(dockerfile)
        (folder / "none").touch()
        for file in files:
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, target)
            target.chmod(0o755)
        run("docker", "build", *options, "--tag", tagged, str(folder))
    return push(tagged)
