from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from delivery.branch import Branch
from service import create_app
from service.gateway import Gateway
from service.settings import Settings
from tests.repositories import Origin, new_origin
from tests.servers import Served, serve
from tests.stand_in import MODEL, StandIn


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
