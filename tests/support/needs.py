"""What `make unit` does without: a test gets at it through these fixtures alone, which is how it says so."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import testbed.docker
import testbed.real_ollama
from testbed import ROOT
from testbed.real_ollama import RealOllama
from testbed.tools import missing, need_tool

NEEDS = frozenset({"browser", "cdk", "cluster", "docker", "network", "real_ollama"})
RunDocker = Callable[..., str]
RunOllama = Callable[..., AbstractContextManager[RealOllama]]
CDK = ROOT / "node_modules/.bin/cdk"  # which package.json pins


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need none of it."""
    for item in items:
        if NEEDS.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("unit")


@pytest.fixture(scope="session")
def cdk() -> Path:
    """Return the CDK's command line, which npm installs."""
    need_tool("node", "nodejs")
    if not CDK.exists():
        missing(f"{CDK} is missing: run npm ci")
    return CDK


@pytest.fixture(scope="session")
def docker() -> RunDocker:
    """Return a function that runs a docker command."""
    return testbed.docker.docker


@pytest.fixture(scope="session")
def network() -> None:
    """Say that a program or its packages are downloaded, at least the first time."""


@pytest.fixture(scope="session")
def real_ollama() -> RunOllama:
    """Return a function that runs Ollama, with a real model."""
    return testbed.real_ollama.real_ollama
