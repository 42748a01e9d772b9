"""What `make unit` does without: a test gets at it through these fixtures alone, which is how it says so."""

import os
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import testbed.docker
import testbed.real_ollama
from testbed import ROOT
from testbed.real_ollama import RealOllama
from testbed.tools import missing, need_tool

NEEDS = frozenset({"browser", "cdk", "cluster", "docker", "network", "programs", "real_ollama"})
# Git, what the gateway itself starts, and how Python finds out for OpenAI's client on what it runs.
ALLOWED = frozenset({"git", "decoder.py", "fit_checker.py", "uname"})
RunDocker = Callable[..., str]
RunOllama = Callable[..., AbstractContextManager[RealOllama]]
CDK = ROOT / "node_modules/.bin/cdk"  # which package.json pins


def pytest_configure(config: pytest.Config) -> None:
    """Watch what unit tests import and start."""
    if config.option.markexpr == "unit":
        sys.meta_path.insert(0, _Imports())
    sys.addaudithook(_look)


_running_unit_test = False


class _Imports:
    """Skips modules that import the CDK or cdk8s, which start Node.js, or Anthropic's client, which takes seconds."""

    def find_spec(self, name: str, *_: object) -> None:
        if name in ("anthropic", "aws_cdk", "cdk8s", "constructs"):
            if _running_unit_test:
                pytest.fail(f"a unit test imports {name}: it must take the fixture `programs`")
            pytest.skip(f"imports {name}", allow_module_level=True)


def _look(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen" and _running_unit_test:
        command = [os.fsdecode(word) for word in arguments[1]]
        if ALLOWED.isdisjoint(Path(word).name for word in command[:3]):
            pytest.fail(f"a unit test starts {' '.join(command[:4])}: it must take the fixture `programs`")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None]:
    """Fail a unit test that starts a program."""
    global _running_unit_test
    _running_unit_test = item.get_closest_marker("unit") is not None
    try:
        return (yield)
    finally:
        _running_unit_test = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need none of it, and begin with the files of the others, which take longest."""
    longest = set[Path]()
    for item in items:
        if NEEDS.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("unit")
        else:
            longest.add(item.path)
    items.sort(key=lambda item: item.path not in longest)


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
def programs() -> None:
    """Say that programs are started: the gateway under gunicorn, k6, HAProxy, a command of Sluice."""


@pytest.fixture(scope="session")
def real_ollama() -> RunOllama:
    """Return a function that runs Ollama, with a real model."""
    return testbed.real_ollama.real_ollama
