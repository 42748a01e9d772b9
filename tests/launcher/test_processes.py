"""Children of the launcher: steps that fail, and programs that aren't there."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from launcher.console import Problem
from launcher.processes import Step, failure, run_step, run_steps, spawn
from testbed.waiting import eventually

pytestmark = pytest.mark.usefixtures("programs")


def test_a_step_that_fails_says_its_last_words_and_where_the_rest_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    with pytest.raises(Problem, match=f"compiling failed: no such header .all of it: {log}") as raised:
        run_step("compiling", ["sh", "-c", "echo one; echo no such header >&2; exit 3"], log=log, env=os.environ)
    assert "\n" not in str(raised.value)
    assert "compiling …" in capsys.readouterr().out
    assert log.read_text() == "one\nno such header\n"


def test_steps_side_by_side_are_all_done_and_the_screen_shows_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.console.Progress.show", lambda self, state: print(state))
    steps = [Step(name, ["sh", "-c", "echo works hard; sleep 1"], tmp_path / name, os.environ) for name in "ab"]
    started = time.monotonic()
    run_steps("both", *steps)
    assert time.monotonic() - started < 1.9
    assert "a works, b works" in capsys.readouterr().out


def test_the_first_of_several_steps_that_fails_ends_the_others_and_is_named(tmp_path: Path) -> None:
    slow = Step("slow", ["sh", "-c", "echo $$; exec sleep 600"], tmp_path / "slow", os.environ)
    bad = Step("bad", ["sh", "-c", "sleep 0.5; echo oh no; exit 1"], tmp_path / "bad", os.environ)
    with pytest.raises(Problem, match="bad failed: oh no"):
        run_steps("both", slow, bad)
    assert ended(int((tmp_path / "slow").read_text()))


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("[1/2] cc\na.cpp:1:2: fatal error: b.h: No such file\nninja: build stopped", "a.cpp:1:2: fatal error: b.h: "),
        ("x.cpp: x\nas: x.o: No space left on device\nc.cpp:1: error: write", "as: x.o: No space left on device"),
        (
            "g++: fatal error: Killed signal terminated program cc1plus\nninja: stopped",
            "g++: fatal error: Killed signal",
        ),
        ("CMake Error at CMakeLists.txt:3 (message):\n  no Git\n\n-- Configuring incomplete", "CMake Error at"),
        ("", "no output"),
    ],
)
def test_a_failure_is_the_line_that_says_why(tmp_path: Path, log: str, reason: str) -> None:
    (tmp_path / "log").write_text(log)
    assert failure(tmp_path / "log").startswith(reason)


def test_what_cmake_complains_of_stands_in_its_next_line(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("CMake Error at CMakeLists.txt:3 (message):\n  no Git\n")
    assert failure(tmp_path / "log") == "CMake Error at CMakeLists.txt:3 (message): no Git"


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
