"""Where the attacks go: the gateway under gunicorn, `docker run`, or what somebody else runs."""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chaos import systems
from experiments import images
from launcher.console import Problem, say
from local_cluster.kubectl import ROOT

LOOPBACK = [f"127.0.0.{last}" for last in range(2, 12)]
TAG = "sluice:chaos"
# The image with the stand-in engine under the name `ollama`.
ENGINE = """FROM {base}
COPY ollama /usr/bin/ollama
COPY experiments/engine.py /opt/engine/experiments/
COPY chaos/engine.py /opt/engine/chaos/
ENV ENGINE_SECONDS={seconds} ENGINE_VARIATION=0
"""
OLLAMA = '#!/bin/sh\nPYTHONPATH=/opt/engine exec python3 -m chaos.engine "$@"\n'
PRIVATE_PORT, PUBLIC_PORT = 9090, 5000


@dataclass(frozen=True)
class Target:
    """A running Sluice.

    capacity: answers/s. private: URLs of its private ports. sources: addresses to attack from. queue_timeout: seconds
    after which a request that was queued is refused.
    """

    name: str
    url: str
    capacity: float
    private: Sequence[str] = ()
    sources: Sequence[str] = ()
    queue_timeout: float = 30


@contextmanager
def gateway() -> Iterator[Target]:
    """Run the gateway under gunicorn, with its default settings."""
    with systems.Engine() as engine, systems.gateway(engine.url) as served:
        yield Target("gateway", served.url, 4 / systems.SECONDS, [served.private], LOOPBACK)


@contextmanager
def docker() -> Iterator[Target]:
    """Run the image with a published port, as README.md has it; the stand-in engine is its Ollama."""
    _docker("build", *images.build_options(), "--file", "service/Dockerfile", "--tag", TAG, ".")
    engine_image(TAG, f"{TAG}-engine")
    options = ["--memory", "512m", "--env", "MODEL=stand-in"]
    options += [word for port in (PUBLIC_PORT, PRIVATE_PORT) for word in ("--publish", f"127.0.0.1::{port}")]
    name = _docker("run", "--detach", *options, f"{TAG}-engine")
    try:
        urls = [f"http://{_docker('port', name, str(port)).split()[0]}" for port in (PUBLIC_PORT, PRIVATE_PORT)]
        if not systems.await_condition(lambda: _is_ready(urls[1]), 60):
            raise Problem(f"the container isn't ready: {_docker('logs', name)[-1000:]}")
        yield Target("docker run", urls[0], 4 / systems.SECONDS, urls[1:], LOOPBACK)
    finally:
        _docker("rm", "--force", "--volumes", name)


def engine_image(base: str, tag: str) -> None:
    """Build the image `base` with the stand-in engine in place of Ollama."""
    say("building the image with the stand-in engine")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "Dockerfile").write_text(ENGINE.format(base=base, seconds=systems.SECONDS))
        (folder / "ollama").write_text(OLLAMA)
        (folder / "ollama").chmod(0o755)
        for file in ("experiments/engine.py", "chaos/engine.py"):
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text((ROOT / file).read_text())
        _docker("build", "--tag", tag, str(folder))


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise Problem(f"docker {arguments[0]}: {(done.stdout + done.stderr).strip()[-2000:]}")
    return done.stdout.strip() or (done.stderr.strip() if arguments[0] == "logs" else "")


def _is_ready(private: str) -> bool:
    return systems.status(f"{private}/readyz") == 200
