import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import hypothesis
import pytest

from testbed.gateway import Served, serve
from testbed.stand_in import StandIn
from testbed.tools import Missing

pytest_plugins = ["tests.support.needs"]
hypothesis.settings.register_profile("sluice", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("sluice")


@contextmanager
def skipping_where_tools_are_missing() -> Iterator[None]:
    try:
        yield
    except Missing as missing:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(str(missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    with skipping_where_tools_are_missing():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    with skipping_where_tools_are_missing():
        return (yield)


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    server = StandIn().start()
    yield server
    server.stop()


@pytest.fixture
def make_server(programs: None, stand_in: StandIn, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Return a function that starts the gateway under gunicorn with the given settings."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(serve(stand_in.url, tmp_path / "log", **settings))
