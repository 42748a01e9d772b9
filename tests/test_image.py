"""The container image, built and run for real by a Docker engine."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from launcher.small_model import SMALL_MODEL
from testbed.docker import docker, need_docker
from testbed.fetching import fetch
from testbed.ports import free_ports
from testbed.waiting import eventually
from tests.support.base_images import BASE, OLLAMA
from tests.support.needs import RunDocker, RunOllama

TAG = "sluice-test"
MAX_BYTES = 250_000_000  # more than the base
READ_ONLY = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]


@pytest.fixture(scope="module")
def image(docker: RunDocker) -> str:
    """Build the image."""
    need_docker(OLLAMA)
    arguments = ["--build-arg", f"BASE_IMAGE={BASE}", "--build-arg", f"OLLAMA_IMAGE={OLLAMA}"]
    docker("build", "--network", "host", *arguments, "--file", "service/Dockerfile", "--tag", TAG, ".")
    return TAG


@pytest.fixture(scope="module")
def models(real_ollama: RunOllama, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return a volume with the small model that belongs to the image's user."""
    store = tmp_path_factory.mktemp("models")
    with real_ollama(models=store):
        pass
    volume = docker("volume", "create")
    mounts = ["--volume", f"{store}:/from:ro", "--volume", f"{volume}:/models"]
    copy = "cp -r /from/. /models && chown -R 10001:10001 /models"
    docker("run", "--rm", "--user", "0", *mounts, "--entrypoint", "sh", image, "-c", copy)
    yield volume
    docker("volume", "rm", volume)


@contextmanager
def container(*arguments: str) -> Iterator[str]:
    """Run a container in this machine's network until the block ends, and give its name."""
    name = docker("run", "--detach", "--network", "host", *READ_ONLY, *arguments)
    try:
        yield name
    except BaseException:
        print(logs(name))
        raise
    finally:
        docker("rm", "--force", "--volumes", name)


def logs(name: str) -> str:
    done = subprocess.run(["docker", "logs", name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout


def status(url: str) -> int:
    try:
        return fetch(url).status
    except OSError:
        return 0


class Ports:
    """Free ports, and the options that have a container use them."""

    def __init__(self) -> None:
        self.port, self.private, self.ollama = free_ports(3)

    @property
    def options(self) -> list[str]:
        variables = {
            "MODEL": SMALL_MODEL,
            "PORT": self.port,
            "PRIVATE_PORT": self.private,
            "OLLAMA_HOST": f"127.0.0.1:{self.ollama}",
        }
        return [option for name, value in variables.items() for option in ("--env", f"{name}={value}")]

    def ready(self) -> bool:
        return status(f"http://127.0.0.1:{self.private}/readyz") == 200

    def answer(self) -> Any:
        reply = fetch(f"http://127.0.0.1:{self.port}/generate", {"prompt": "What is 2 + 2?", "temperature": 0})
        assert reply.status == 200
        return reply.json()


def test_it_is_small(image: str) -> None:
    sizes = [int(docker("image", "inspect", "--format", "{{.Size}}", name)) for name in (image, BASE)]
    assert sizes[0] - sizes[1] <= MAX_BYTES


def test_it_runs_as_nobody_special(image: str) -> None:
    config = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", image))
    assert config["User"] == "10001:10001"
    assert config["Labels"]["org.opencontainers.image.title"] == "Sluice"
    assert docker("run", "--rm", "--entrypoint", "id", image, "-u") == "10001"


def test_docker_run_starts_ollama_and_the_gateway_and_drains_on_stop(image: str, models: str) -> None:
    ports = Ports()
    with container("--volume", f"{models}:/models", *ports.options, image) as name:
        eventually(ports.ready, 120)
        answer = ports.answer()
        assert answer["model"] == SMALL_MODEL
        assert "4" in answer["response"]
        docker("stop", "--time", "30", name)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", name) == "0"
        assert "draining" in logs(name)


def test_a_volume_of_its_own_can_be_written(image: str) -> None:
    mode = docker("run", "--rm", *READ_ONLY, "--entrypoint", "stat", image, "--format", "%u %a", "/models")
    assert mode == "10001 755"
    docker("run", "--rm", *READ_ONLY, "--entrypoint", "touch", image, "/models/file", "/tmp/file")


def test_without_model_and_hub_it_ends_with_one_line(image: str) -> None:
    ports = Ports()
    # A hub on a port where nothing listens; the image has no way to the small model.
    unreachable = ["--env", "MODEL=127.0.0.1:9/library/moondream"]
    with container(*ports.options, *unreachable, image) as name:
        assert docker("wait", name) == "1"
        *_, last = [line for line in logs(name).splitlines() if line.startswith("sluice: ")]
        assert "the model hub can't be reached" in last
        assert "Traceback" not in logs(name)


def test_each_half_runs_alone_as_a_container_of_a_pod(image: str, models: str) -> None:
    ports = Ports()
    store = ["--volume", f"{models}:/models:ro", "--env", "OLLAMA_NOPRUNE=1"]
    gunicorn = ["-c", "service/gunicorn.conf.py", "service.wsgi:app"]
    with (
        container(*store, *ports.options, "--entrypoint", "ollama", image, "serve"),
        container(*ports.options, "--entrypoint", "gunicorn", image, *gunicorn) as gateway,
    ):
        eventually(ports.ready, 120)
        assert "4" in ports.answer()["response"]
        docker("kill", "--signal", signal.SIGTERM.name, gateway)
        assert docker("wait", gateway) == "0"


def test_nothing_of_a_build_is_left_in_it(image: str) -> None:
    tools = "for tool in pip uv gcc apt-get; do command -v $tool; done; ls /opt /opt/sluice /opt/sluice/service"
    listing = docker("run", "--rm", "--entrypoint", "sh", image, "-c", tools).split()
    assert {"/opt:", "venv", "sluice"} <= set(listing)
    assert not {"uv", "pip", "tests", "Dockerfile"} & {Path(entry).name for entry in listing}
