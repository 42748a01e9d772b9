from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cdk8s_manifests.haproxy_cfg import haproxy_cfg
from cdk8s_manifests.names import PODS
from service.front import MODEL_NAME
from service.gateway import KEY_NAME
from testbed.fetching import Reply, fetch
from testbed.haproxy import Pod, Ports, Proxy, haproxy
from tests.support.haproxy import ONE_SLOT, Post, Run, chat
from tests.support.needs import RunDocker


@pytest.fixture
def run(docker: RunDocker, tmp_path: Path) -> Iterator[Run]:
    """Return a function that starts HAProxy in front of gateways, for a stage of one slot and other changes."""
    with ExitStack() as stack:

        def start(
            *pods: Pod,
            ports: Ports | None = None,
            holders: tuple[Ports, ...] = (),
            others: Mapping[str, Sequence[Pod]] | None = None,
            **changes: Any,
        ) -> Proxy:
            folder = tmp_path / f"haproxy-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            text = haproxy_cfg(replace(ONE_SLOT, **changes))
            return stack.enter_context(haproxy(text, folder, {PODS: pods, **(others or {})}, ports, holders))

        yield start


@pytest.fixture
def post() -> Iterator[Post]:
    """Return a function that asks for an answer in the background."""
    with ThreadPoolExecutor(64) as pool:

        def send(
            proxy: Proxy,
            prompt: str = "x",
            priority: str = "interactive",
            key: str = "",
            model: str = "",
            **body: Any,
        ) -> Future[Reply]:
            headers = {"X-Priority": priority} | ({KEY_NAME: key} if key else {})
            headers |= {MODEL_NAME: model} if model else {}
            return pool.submit(fetch, f"{proxy.url}/engine/chat", chat(prompt, **body), headers)

        yield send
