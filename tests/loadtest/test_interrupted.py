"""Load tests that somebody interrupts."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.report import read
from testbed import ROOT
from testbed.stand_in import MODEL
from testbed.waiting import eventually
from tests.support.answers import answering

pytestmark = pytest.mark.usefixtures("k6")


@pytest.fixture
def soaking(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A function that starts half an hour of load in a process of its own."""
    running = list[subprocess.Popen[str]]()

    def start(target: str) -> subprocess.Popen[str]:
        where = ["--target", target, "--model", MODEL, "--out", str(tmp_path)]
        command = [sys.executable, "-m", "loadtest", "run", "--scenario", "soak", "--rate", "9", *where]
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(command, cwd=ROOT, text=True, stdout=pipe, stderr=pipe))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_k6_and_leaves_a_report_that_says_so(soaking: Any, tmp_path: Path, number: int) -> None:
    with answering() as target:
        process = soaking(target.url)
        eventually(lambda: len(target.prompts) > 9, 120)
        [k6] = children(process.pid)
        process.send_signal(number)
        time.sleep(0.3)
        process.send_signal(number)  # `uv run` sends one too, a moment after the terminal's
        out, said = process.communicate(timeout=120)
    *progress, last = said.splitlines()
    assert (process.returncode, last) == (130, "sluice: interrupted: the report has what was measured until then")
    assert all(line.startswith("soak: ") for line in progress)
    assert not Path(f"/proc/{k6}").exists()
    report = read(tmp_path / "soak")
    assert (report["interrupted"], report["valid"]) == (True, False)
    assert report["invalid_because"][0] == f"interrupted after {report['seconds']:.0f} s of 1800 s"
    assert report["counts"]["answered"] > 5
    assert report["throughput"] == pytest.approx(9, rel=0.5)
    assert "**Invalid**: interrupted after " in out
    assert (tmp_path / "soak/report.html").exists()


def test_a_run_that_is_interrupted_before_anything_counts_leaves_nothing(soaking: Any, tmp_path: Path) -> None:
    with answering() as target:
        target.hold_warm_up = True
        process = soaking(target.url)
        eventually(lambda: target.paths["/generate"] > 0, 120)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (130, "sluice: interrupted, so there is no report\n")
    assert list(tmp_path.iterdir()) == []


def children(pid: int) -> list[str]:
    """Return the processes that a process has started, once there are any."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return list(eventually(lambda: listed.read_text().split()))
