"""`ollama serve` whose speed depends on how it was started and what it is asked, for tests that tune it.

A test puts it on PATH as `ollama`: see install(). It answers only requests that say what the model was loaded with, as
the real one would load the model again, and what doesn't fit its memory can't be loaded.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed import ROOT
from testbed.stand_in.__main__ import main
from testbed.stand_in.model import VERSION
from testbed.stand_in.ollama import Ollama
from testbed.stand_in.server import Exchange

STEP, STEP_A_SLOT = 0.012, 0.0008  # seconds from token to token: alone, and for each slot
READING = 0.01  # seconds until the first token
MOST_SLOTS = 16
FACTORS = {"q8_0": 1.1, "no flash": 1.4, "ngram-simple": 0.5, "ngram-cache": 4.0}
KINDS = {"small": ["completion"], "vectors": ["embedding"]}


def install(folder: Path, version: str = VERSION) -> None:
    """Put the program into a folder, and beside it what it starts as its llama-server."""
    program = folder / "ollama"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        f"from tests.support import tunable\ntunable.run({version!r}, {str(folder)!r})\n"
    )
    program.chmod(0o755)
    (folder / "llama-server").symlink_to(shutil.which("sleep") or "/bin/sleep")


def run(version: str, folder: str) -> None:
    """Be `ollama`."""
    main(sys.argv[1:], lambda _, host: Tunable(host, version=version, folder=folder))


def seconds_a_token(slots: int, threads: int, environ: dict[str, str]) -> float:
    """Return what each of `slots` callers waits from token to token."""
    found = (STEP + STEP_A_SLOT * slots) * (1.0 if threads > 1 else 1.9)
    found *= FACTORS.get(environ.get("OLLAMA_KV_CACHE_TYPE", ""), 1.0)
    found *= FACTORS.get(environ.get("LLAMA_ARG_SPEC_TYPE", ""), 1.0)
    return found * (FACTORS["no flash"] if environ["OLLAMA_FLASH_ATTENTION"] == "0" else 1.0)


@dataclass
class Tunable(Ollama):
    folder: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._held: Any = None

    async def show(self, exchange: Exchange) -> None:
        kinds = KINDS.get(exchange.body["model"])
        await exchange.reply({"capabilities": kinds} if kinds else {"error": "not found"}, 200 if kinds else 404)

    async def generate(self, exchange: Exchange) -> None:
        if int(os.environ["OLLAMA_NUM_PARALLEL"]) > MOST_SLOTS:
            await exchange.reply({"error": "out of memory"}, 500)
            return
        self._held = _runner(exchange.body)
        subprocess.Popen([f"{self.folder}/llama-server", "600"])
        await exchange.reply({"done": True})

    async def chat(self, exchange: Exchange) -> None:
        if _runner(exchange.body) != self._held:
            await exchange.reply({"error": "the model would be loaded again"}, 500)
            return
        options, slots = exchange.body["options"], int(os.environ["OLLAMA_NUM_PARALLEL"])
        step = seconds_a_token(slots, options["num_thread"], dict(os.environ))
        await asyncio.sleep(READING)
        loop = asyncio.get_running_loop()
        due = loop.time()
        for _ in range(options["num_predict"]):
            await exchange.line(self.piece(exchange, "word "))
            due += step
            await asyncio.sleep(max(0.0, due - loop.time()))
        await exchange.line(self.last(exchange, options["num_predict"]))
        await exchange.end()


def _runner(body: Any) -> Any:
    options = {name: body["options"].get(name) for name in ("num_ctx", "num_thread", "num_batch")}
    return [body["model"], body.get("shift"), options]
