"""`ollama serve` whose speed depends on how it was started and what it is asked, for tests that tune it.

A test puts it on PATH as `ollama`: see install(). It answers only requests that say what the model was loaded with, as
the real one would load the model again, and what doesn't fit its memory can't be loaded.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

STEP, STEP_A_SLOT = 0.03, 0.002  # seconds from token to token: alone, and for each slot
READING = 0.02  # seconds until the first token
MOST_SLOTS = 16
FACTORS = {"q8_0": 1.1, "no flash": 1.4, "ngram-simple": 0.5, "ngram-cache": 4.0}


def install(folder: Path, version: str = "0.32.15") -> None:
    """Put the program into a folder, and beside it what it starts as its llama-server."""
    root = Path(__file__).parent.parent
    program = folder / "ollama"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(root)!r})\n"
        f"from tests import tunable\ntunable.serve({version!r}, {str(folder)!r})\n"
    )
    program.chmod(0o755)
    (folder / "llama-server").symlink_to(shutil.which("sleep") or "/bin/sleep")


def serve(version: str, folder: str) -> None:
    """Serve at OLLAMA_HOST until it is ended; `ollama --version` only says its version."""
    if "--version" in sys.argv:
        print(f"ollama version is {version}")
        return
    host, port = os.environ["OLLAMA_HOST"].split(":")
    server = _Server((host, int(port)), _Handler)
    server.version, server.folder = version, folder
    server.serve_forever()


def seconds_a_token(slots: int, threads: int, environ: dict[str, str]) -> float:
    """Return what each of `slots` callers waits from token to token."""
    found = (STEP + STEP_A_SLOT * slots) * (1.0 if threads > 1 else 1.9)
    found *= FACTORS.get(environ.get("OLLAMA_KV_CACHE_TYPE", ""), 1.0)
    found *= FACTORS.get(environ.get("LLAMA_ARG_SPEC_TYPE", ""), 1.0)
    return found * (FACTORS["no flash"] if environ["OLLAMA_FLASH_ATTENTION"] == "0" else 1.0)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    version: str
    folder: str
    loaded: Any = None


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self._reply(200, {"version": self.server.version})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/show":
            kinds = {"small": ["completion"], "vectors": ["embedding"]}.get(body["model"])
            self._reply(200 if kinds else 404, {"capabilities": kinds} if kinds else {"error": "not found"})
        elif self.path == "/api/generate":
            self._load(body)
        elif _runner(body) != self.server.loaded:
            self._reply(500, {"error": "the model would be loaded again"})
        else:
            self._chat(body)

    def _load(self, body: Any) -> None:
        if int(os.environ["OLLAMA_NUM_PARALLEL"]) > MOST_SLOTS:
            self._reply(500, {"error": "out of memory"})
            return
        self.server.loaded = _runner(body)
        subprocess.Popen([f"{self.server.folder}/llama-server", "600"])
        self._reply(200, {"done": True})

    def _chat(self, body: Any) -> None:
        self.send_response(200)
        self.end_headers()
        time.sleep(READING)
        slots = int(os.environ["OLLAMA_NUM_PARALLEL"])
        step = seconds_a_token(slots, body["options"]["num_thread"], dict(os.environ))
        due = time.monotonic()
        for _ in range(body["options"]["num_predict"]):
            self.wfile.write(json.dumps({"message": {"content": "word "}}).encode() + b"\n")
            due += step
            time.sleep(max(0.0, due - time.monotonic()))
        self.wfile.write(json.dumps({"message": {"content": ""}, "done": True}).encode() + b"\n")

    def _reply(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def handle(self) -> None:
        with suppress(ConnectionError):  # a caller whose time was over
            super().handle()

    def log_message(self, *args: object) -> None:
        """Write nothing."""


def _runner(body: Any) -> Any:
    options = {name: body["options"].get(name) for name in ("num_ctx", "num_thread", "num_batch")}
    return [body["model"], body.get("shift"), options]
