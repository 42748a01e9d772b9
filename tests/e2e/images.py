"""The images that the cluster runs, built here and pushed to its registry, once a session."""

from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

from launcher.cache import exclusive
from local_cluster.images import build_gateway, build_weights, fill_store, push_proxy
from local_cluster.kubectl import environ
from testbed.real_ollama import models_dir


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
def proxy() -> None:
    """Push HAProxy's image to where the local stage pulls it from."""
    with one_builder():
        push_proxy()


def one_builder() -> AbstractContextManager[None]:
    """Let no other test process build meanwhile: a tag that moves between its push and its digest has none."""
    return exclusive(Path(environ()["state"]))
