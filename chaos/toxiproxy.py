"""Toxiproxy between the gateway and its engine: a network that is slow, cut or silent, by its HTTP API."""

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.systems import await_condition
from launcher.cache import cache_dir
from launcher.console import Problem, say
from testbed.fetching import status
from testbed.ports import free_ports
from testbed.programs import scratch

MODULE = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0"


@dataclass(frozen=True)
class Proxy:
    """A proxy; its URL is where the gateway finds the engine."""

    api: str
    url: str

    @contextmanager
    def toxic(self, kind: str, *, stream: str = "downstream", **attributes: int) -> Iterator[None]:
        """Have the toxic in the connections until the block ends; downstream is what the engine sends."""
        name = f"{kind}-{stream}"
        self._call("POST", "/toxics", {"name": name, "type": kind, "stream": stream, "attributes": attributes})
        try:
            yield
        finally:
            self._call("DELETE", f"/toxics/{name}")

    def _call(self, method: str, path: str, body: Any = None) -> None:
        _call(method, f"{self.api}/proxies/engine{path}", body)


@contextmanager
def toxiproxy(upstream: str) -> Iterator[Proxy]:
    """Run a proxy to `upstream` (HOST:PORT) until the block ends."""
    program = find_toxiproxy()
    api_port, port = free_ports(2)
    api = f"http://127.0.0.1:{api_port}"
    with (scratch() / "toxiproxy.log").open("wb") as log:
        process = subprocess.Popen([program, "-port", str(api_port)], stdout=log, stderr=log)
    try:
        if not await_condition(lambda: status(f"{api}/version") == 200, 20):
            raise Problem(f"toxiproxy doesn't answer: see {log.name}")
        _call("POST", f"{api}/proxies", {"name": "engine", "listen": f"127.0.0.1:{port}", "upstream": upstream})
        yield Proxy(api, f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


def find_toxiproxy() -> str:
    """Return the program's path: from PATH, from the cache, or built from its Go module. Raises Problem."""
    if found := shutil.which("toxiproxy-server"):
        return found
    folder: Path = cache_dir(os.environ) / "toxiproxy"
    if not (folder / "server").exists():
        say(f"building {MODULE} …")
        environ = {**os.environ, "GOBIN": str(folder)}
        done = subprocess.run(["go", "install", MODULE], env=environ, cwd=Path.home(), capture_output=True, text=True)
        if done.returncode:
            raise Problem(f"toxiproxy can't be built (it needs Go): {done.stderr.strip()[-500:]}")
    return str(folder / "server")


def _call(method: str, url: str, body: Any) -> None:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=10) as reply:  # noqa: S310
        reply.read()
