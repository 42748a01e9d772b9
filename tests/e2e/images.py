"""The images that the cluster runs, built here and pushed to its registry, once a session."""

from functools import cache

from local_cluster.images import build_gateway, build_weights, fill_store, push_proxy
from testbed.real_ollama import models_dir


@cache
def gateway() -> str:
    """Return the digest of the service's image."""
    return build_gateway("test")


@cache
def weights() -> str:
    """Return the digest of an image with the small model."""
    return build_weights(fill_store(models_dir()))


@cache
def proxy() -> None:
    """Push HAProxy's image to where the local stage pulls it from."""
    push_proxy()
