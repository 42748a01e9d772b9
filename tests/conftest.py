import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from delivery.branch import Branch
from service import create_app
from service.gateway import Gateway
from service.settings import Settings
from testbed.gateway import Served, serve
from testbed.stand_in import MODEL, StandIn
from testbed.tools import Missing
from tests.repositories import Origin, new_origin


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
def make_app(stand_in: StandIn) -> Iterator[Callable[..., Flask]]:
    with ExitStack() as stack:

        def make(**changes: Any) -> Flask:
            app = create_app(Settings(**{"ollama_host": stand_in.url, "model": MODEL, "threads": 2, **changes}))
            gateway: Gateway = app.extensions["sluice"]
            stack.callback(gateway.ollama.pool.forget)
            return app

        yield make


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    app = make_app()
    gateway: Gateway = app.extensions["sluice"]
    gateway.watch.look()
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def make_server(stand_in: StandIn, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Return a function that starts the gateway under gunicorn with the given settings."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(serve(stand_in.url, tmp_path / "log", **settings))


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return new_origin(tmp_path)


@pytest.fixture
def branch(origin: Origin) -> Branch:
    return origin.clone()
