"""Children of the launcher: steps that fail, and programs that aren't there."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from launcher.console import Problem
from launcher.processes import run_step, spawn
from tests.stand_in import eventually


def test_a_step_that_fails_says_its_last_words_and_where_the_rest_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    with pytest.raises(Problem, match=f"compiling failed: no such header .all of it: {log}") as raised:
        run_step("compiling", ["sh", "-c", "echo one; echo no such header >&2; exit 3"], log=log, env=os.environ)
    assert "\n" not in str(raised.value)
    assert "compiling …" in capsys.readouterr().out
    assert log.read_text() == "one\nno such header\n"


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_step_leaves_nothing_running(tmp_path: Path) -> None:
    run_step("forking", ["sh", "-c", "sleep 600 & echo $!"], log=tmp_path / "log", env=os.environ)
    left = int((tmp_path / "log").read_text())
    # This process adopts no orphans, so run_step can't wait for its end, only bring it about.
    eventually(lambda: ended(left))


def test_a_program_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as output:
        child = spawn(["no-such-program"], death_signal=signal.SIGKILL, output=output)
    assert child.wait(10) == 1
    assert (tmp_path / "log").read_text() == "no-such-program can't be started: No such file or directory\n"
