"""k6 as a process: found, started, followed while it runs, and its end read."""

import asyncio
import json
import os
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from loadtest.plan import Plan

SCRIPTS = Path(__file__).parent
THRESHOLDS_BROKEN, INTERRUPTED = 99, 105  # k6's exit codes
STOP_SECONDS = 20.0  # for k6 to end when it is interrupted


class CannotRun(Exception):
    """Nothing was measured; the message is one sentence that says why."""


@dataclass(frozen=True)
class QuestionResult:
    """One question with its retries. Times in seconds, `started` since the epoch."""

    started: float
    took: float
    outcome: str
    attempts: int
    refusals: int


class Entry(NamedTuple):
    """An entry of k6's log in JSON. console: a script wrote it. error: its first line says what went wrong."""

    text: str
    console: bool
    error: bool


def read_entry(line: bytes) -> Entry:
    """Return an entry of the log; a line that is none is an error of k6 itself."""
    text = line.decode(errors="replace").strip()
    try:
        entry = json.loads(text)
    except ValueError:
        entry = {"level": "error", "msg": text}
    console, message = entry.get("source") == "console", entry["msg"]
    if console or entry["level"] not in ("error", "fatal") or not message:
        return Entry(message, console, False)
    return Entry(message.splitlines()[0].removeprefix("GoError: ").removeprefix("Error: "), False, True)


def find_k6() -> str:
    """Return the path of k6: next to this Python, or on PATH. Raises CannotRun."""
    found = shutil.which("k6", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if not found:
        raise CannotRun("k6 is missing: `make sync` installs it")
    return found


class Run:
    """A running k6 and what it has recorded so far: read() takes in what is new."""

    def __init__(self, process: Process, folder: Path) -> None:
        self._process, self._folder = process, folder
        self._read_to = 0
        self._rest = ""
        self._errors = asyncio.create_task(self._read_errors())
        self.asked: list[QuestionResult] = []
        self.began = asyncio.get_running_loop().create_future()  # seconds since the epoch, once it counts
        self.begun = self.dropped = 0

    def read(self) -> None:
        """Take in the points that k6 has written since the last time."""
        with (self._folder / "points.json").open() as file:
            file.seek(self._read_to)
            *lines, self._rest = (self._rest + file.read()).split("\n")
            self._read_to = file.tell()
        for line in lines:
            point = json.loads(line)
            if point["type"] == "Point":
                self._take(point["metric"], point["data"])

    def _take(self, metric: str, data: dict[str, Any]) -> None:
        if metric == "asked":
            tags, took = data["tags"], data["value"] / 1000
            started = _seconds(data["time"]) - took
            self.asked.append(
                QuestionResult(started, took, tags["outcome"], int(tags["attempts"]), int(tags["refusals"]))
            )
        elif metric == "begun":
            self.begun += int(data["value"])
        elif metric == "dropped_iterations":
            self.dropped += int(data["value"])
        elif metric == "measuring" and not self.began.done():
            self.began.set_result(_seconds(data["time"]))

    @property
    def ended(self) -> bool:
        """Say whether k6 has ended."""
        return self._process.returncode is not None

    async def stop(self) -> dict[str, Any]:
        """End k6 before its time, take in the rest, and return its metrics, if it has any by then."""
        with suppress(ProcessLookupError):  # it has just ended by itself
            self._process.send_signal(signal.SIGINT)
        try:
            return await asyncio.wait_for(self.finish(0, THRESHOLDS_BROKEN, INTERRUPTED), STOP_SECONDS)
        except (TimeoutError, CannotRun):
            self.read()
            return {}

    async def finish(self, *good: int) -> dict[str, Any]:
        """Wait until k6 has ended, take in the rest, and return its metrics by name. Raises CannotRun.

        good: exit codes with which it has done what it should; by default those of a run to its end.
        """
        code, errors = await self._process.wait(), await self._errors
        self.read()
        summary = self._folder / "summary.json"
        if code not in (good or (0, THRESHOLDS_BROKEN)) or not summary.exists():
            raise CannotRun(f"k6 ended with {code}: {errors[-1] if errors else 'it said nothing'}")
        metrics: dict[str, Any] = json.loads(summary.read_text())
        return metrics

    async def _read_errors(self) -> list[str]:
        """Return the first line of each error that k6 logs."""
        found = []
        while self._process.stderr and (line := await self._process.stderr.readline()):
            if (entry := read_entry(line)).error:
                found.append(entry.text)
        return found


@asynccontextmanager
async def run_k6(plan: Plan, folder: Path) -> AsyncIterator[Run]:
    """Start a plan's scenario with its files in `folder`; the block's end ends k6 too."""
    (folder / "points.json").touch()
    environ = os.environ | plan.environ() | {"SUMMARY": str(folder / "summary.json")}
    command = [find_k6(), "run", "--quiet", "--no-usage-report", "--no-color", "--address=", "--log-format=json"]
    command += [f"--out=json={folder / 'points.json'}", str(SCRIPTS / "run.js")]
    # A session of its own: Ctrl-C is for us, and we end k6.
    process = await asyncio.create_subprocess_exec(
        *command, env=environ, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, start_new_session=True
    )
    try:
        yield Run(process, folder)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
