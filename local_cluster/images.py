"""The images that a local cluster runs: built here, and pushed to its registry by digest."""

import os
import shlex
import tempfile
from pathlib import Path

from config import IMAGE_REPOSITORY, LOCAL, WEIGHTS_REPOSITORY
from launcher.cache import cache_dir
from launcher.find_model import find_model
from launcher.ollama_process import ollama_of_our_own
from local_cluster.kubectl import run
from service.settings import Settings

# As in .github/workflows/models.yml: the files of Ollama's store, and nothing else.
WEIGHTS_DOCKERFILE = "FROM scratch\nCOPY . /\n"


def build_options() -> list[str]:
    """Return the further arguments of `docker build` that BUILD_OPTIONS has, for the images that download something."""
    return shlex.split(os.environ.get("BUILD_OPTIONS", ""))


def build_gateway(tag: str = "local") -> str:
    """Build the service's image, push it, and return its digest."""
    name = f"{LOCAL.registry}/{IMAGE_REPOSITORY}:{tag}"
    run("docker", "build", *build_options(), "--file", "service/Dockerfile", "--tag", name, ".")
    return push(name)


def build_weights(store: Path) -> str:
    """Build an image of the folder `store`, an Ollama's model store, push it, and return its digest."""
    name = f"{LOCAL.registry}/{WEIGHTS_REPOSITORY}:local"
    with tempfile.NamedTemporaryFile("w", suffix=".Dockerfile") as dockerfile:
        dockerfile.write(WEIGHTS_DOCKERFILE)
        dockerfile.flush()
        run("docker", "build", "--file", dockerfile.name, "--tag", name, str(store))
    return push(name)


def fill_store(store: Path) -> Path:
    """Have an Ollama put the local stage's model into the folder `store`, and return that folder."""
    environ = {**os.environ, "OLLAMA_HOST": "", "OLLAMA_MODELS": str(store)}
    with ollama_of_our_own(Settings(), environ, cache_dir(environ) / "ollama-demo.log") as ollama:
        find_model(ollama.url, LOCAL.model.name, environ)
    return store


def push_proxy() -> None:
    """Push HAProxy's image to where the local stage pulls it from."""
    run("docker", "tag", LOCAL.proxy_image.removeprefix(f"{LOCAL.registry}/"), LOCAL.proxy_image)
    push(LOCAL.proxy_image)


def push(name: str) -> str:
    """Push an image by its tag and return its digest."""
    run("docker", "push", "--quiet", name)
    repository = name.rpartition(":")[0]
    digests = run("docker", "image", "inspect", "--format", '{{join .RepoDigests " "}}', name).split()
    [digest] = [each.partition("@")[2] for each in digests if each.startswith(f"{repository}@")]
    return digest
