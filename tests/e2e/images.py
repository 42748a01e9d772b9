"""The images that the cluster runs, built here and pushed to its registry, once a session."""

import os
import shutil
import tempfile
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

from launcher.cache import cache_dir, exclusive
from launcher.ollama_calls import call
from launcher.ollama_process import ollama_of_our_own
from loadtest.models.packages import install
from local_cluster.images import build_gateway, build_weights, fill_store, push_proxy
from local_cluster.kubectl import environ
from service.settings import Settings
from testbed.real_ollama import models_dir

EMBEDDING = "minilm-l6"


@cache
def gateway() -> str:
    """Return the digest of the service's image."""
    with one_builder():
        return build_gateway("test")


@cache
def weights() -> str:
    """Return the digest of an image with the small model."""
    with one_builder():
        return build_weights(fill_store(models_dir()))


@cache
def embedding_weights(*, changed: bool = False) -> str:
    """Return the digest of an image with a small model that embeds; changed: of another one, with the same model."""
    store = cache_dir(os.environ) / "test-embedding-model"
    with one_builder(), tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "OLLAMA_HOST": "", "OLLAMA_MODELS": str(store)}
        with ollama_of_our_own(Settings(), environ, Path(folder) / "ollama.log") as ollama:
            if not call(ollama.url, "/api/tags", timeout=10)["models"]:
                install(ollama.url, EMBEDDING, environ)
        if not changed:
            return build_weights(store)
        other = Path(shutil.copytree(store, Path(folder) / "store"))
        (other / "changed").touch()
        return build_weights(other)


@cache
def proxy() -> None:
    """Push HAProxy's image to where the local stage pulls it from."""
    with one_builder():
        push_proxy()


def one_builder() -> AbstractContextManager[None]:
    """Let no other test process build meanwhile: a tag that moves between its push and its digest has none."""
    return exclusive(Path(environ()["state"]))
