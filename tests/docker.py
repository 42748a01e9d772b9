"""The Docker engine of this machine."""

import subprocess

from tests.real import missing, need_tool
from tests.servers import ROOT


def docker(*arguments: str) -> str:
    """Run a docker command and return its output."""
    done = subprocess.run(["docker", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout.strip()


def need_docker(image: str) -> None:
    """Skip the test without a Docker engine that has `image` or can pull it; fail it where CI=true."""
    need_tool("docker", "docker.io")
    if subprocess.run(["docker", "info"], capture_output=True).returncode:
        missing("no Docker engine answers: start docker.service (Debian's docker.io)")
    if not docker("image", "ls", "--quiet", image) and subprocess.run(["docker", "pull", image]).returncode:
        missing(f"the image {image} can't be pulled")
