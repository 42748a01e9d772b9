"""Where the attacks go: the gateway under gunicorn, `docker run`, or what somebody else runs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from chaos import systems
from launcher.console import Problem
from local_cluster.images import build_options
from testbed.docker import docker as run_docker
from testbed.fetching import status
from testbed.image import build_stand_in
from testbed.stand_in import MODEL

LOOPBACK = [f"127.0.0.{last}" for last in range(2, 12)]
TAG = "sluice:chaos"
PRIVATE_PORT, PUBLIC_PORT = 9090, 5000


@dataclass(frozen=True)
class AttackTarget:
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
def gateway() -> Iterator[AttackTarget]:
    """Run the gateway under gunicorn, with its default settings."""
    with systems.Engine() as engine, systems.gateway(engine.url) as served:
        yield AttackTarget("gateway", served.url, 4 / systems.SECONDS, [served.private], LOOPBACK)


@contextmanager
def docker() -> Iterator[AttackTarget]:
    """Run the image with a published port, as README.md has it; the stand-in engine is its Ollama."""
    run_docker("build", *build_options(), "--file", "service/Dockerfile", "--tag", TAG, ".")
    build_stand_in(TAG, f"{TAG}-engine", systems.figures())
    options = ["--memory", "512m", "--env", f"MODEL={MODEL}"]
    options += [word for port in (PUBLIC_PORT, PRIVATE_PORT) for word in ("--publish", f"127.0.0.1::{port}")]
    name = run_docker("run", "--detach", *options, f"{TAG}-engine")
    try:
        urls = [f"http://{run_docker('port', name, str(port)).split()[0]}" for port in (PUBLIC_PORT, PRIVATE_PORT)]
        if not systems.await_condition(lambda: _is_ready(urls[1]), 60):
            raise Problem(f"the container isn't ready: {run_docker('logs', name)[-1000:]}")
        yield AttackTarget("docker run", urls[0], 4 / systems.SECONDS, urls[1:], LOOPBACK)
    finally:
        run_docker("rm", "--force", "--volumes", name)


def _is_ready(private: str) -> bool:
    return status(f"{private}/readyz") == 200
