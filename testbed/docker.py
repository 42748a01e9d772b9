"""The Docker engine of this machine."""

import subprocess

from launcher.console import Problem
from testbed import ROOT
from testbed.tools import Missing, need_tool


def docker(*arguments: str) -> str:
    """Run a docker command and return its output. Raises Problem."""
    done = subprocess.run(["docker", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise Problem(f"docker {arguments[0]}: {(done.stdout + done.stderr).strip()[-4000:]}")
    return done.stdout.strip()


def need_docker(image: str) -> None:
    """Have a Docker engine with `image`, which may be pulled. Raises Missing."""
    need_tool("docker", "docker.io")
    if subprocess.run(["docker", "info"], capture_output=True).returncode:
        raise Missing("no Docker engine answers: start docker.service (Debian's docker.io)")
    if not docker("image", "ls", "--quiet", image) and subprocess.run(["docker", "pull", image]).returncode:
        raise Missing(f"the image {image} can't be pulled")
