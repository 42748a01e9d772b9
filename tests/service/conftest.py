from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import Browser, sync_playwright

from service import create_app
from service.models import Models
from service.settings import Settings
from testbed.gateway import Served, serve
from testbed.stand_in import MODEL, StandIn
from testbed.tools import missing

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        missing(f"{CHROMIUM} is missing: apt-get install -y chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def engine() -> Iterator[StandIn]:
    server = StandIn().start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def shared(programs: None, engine: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Return a gateway before `engine` for tests that leave it as it was."""
    with serve(engine.url, tmp_path_factory.mktemp("gateway") / "log") as served:
        yield served


@pytest.fixture
def make_app(stand_in: StandIn) -> Iterator[Callable[..., Flask]]:
    with ExitStack() as stack:

        def make(**changes: Any) -> Flask:
            app = create_app(Settings(**{"ollama_host": stand_in.url, "model": MODEL, "threads": 2, **changes}))
            models: Models = app.extensions["sluice"]
            for gateway in models.gateways:
                stack.callback(gateway.ollama.pool.forget)
            return app

        yield make


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    app = make_app()
    models: Models = app.extensions["sluice"]
    models.default.watch.look()
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
