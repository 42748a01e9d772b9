import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.support.page import WAIT, Gateway, Open


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """A function that opens a gateway's page. Afterwards: no request left its origin, and the console is clean.

    Chromium itself logs a failed request; `failures` is a pattern for those that a test causes on purpose.
    """
    closers: list[Callable[[], Any]] = []
    origins: list[str] = []
    urls: list[str] = []
    complaints: list[str] = []
    wanted: list[str] = []

    def open_(gateway: Gateway, *, failures: str = "", clock: bool = False, **context: Any) -> Page:
        serving = gateway.serve()
        url = serving.__enter__()
        closers.append(lambda: serving.__exit__(None, None, None))
        opened = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **context)
        closers.append(opened.close)
        page = opened.new_page()
        page.set_default_timeout(WAIT * 1000)
        origins.append(url)
        wanted.append(failures)
        page.on("request", lambda request: urls.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
        if clock:
            page.clock.install()
        with page.expect_response("**/v1/models"):
            page.goto(url)
        return page

    yield open_
    for close in reversed(closers):
        close()
    assert [url for url in urls if not url.startswith((*origins, "data:", "blob:"))] == []
    assert [line for line in complaints if not any(w and re.search(w, line) for w in wanted)] == []
