"""What a machine can take away from one process: its memory, and its clock."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from chaos.bodies import GENERATE, post
from chaos.cost import send
from chaos.systems import lives
from launcher.console import Problem

CGROUPS = Path("/sys/fs/cgroup")
ROOM = 8 << 20  # bytes that the process may still take
SOURCE = Path(__file__).with_name("jumping_clock.c")


@contextmanager
def memory_limit(pid: int, room: int = ROOM) -> Iterator[None]:
    """Let a process take no more than `room` bytes beyond what it has, until the block ends. Raises Problem.

    Its parent, and what that starts in its place, have no limit. What a process has when it enters a group isn't
    counted there.
    """
    unified = (CGROUPS / "cgroup.controllers").exists()
    group = (CGROUPS if unified else CGROUPS / "memory") / f"sluice-chaos-{os.getpid()}"
    limits = ["memory.max", "memory.swap.max"] if unified else ["memory.limit_in_bytes"]
    try:
        group.mkdir()
        (group / limits[0]).write_text(str(room))
        for name in limits[1:]:
            with suppress(OSError):
                (group / name).write_text("0")
        (group / "cgroup.procs").write_text(str(pid))
        yield
    except OSError as error:
        raise Problem(f"it needs root, for a memory limit: {error.strerror}") from error
    finally:
        with suppress(OSError):
            (group.parent / "cgroup.procs").write_text(str(pid))
        with suppress(OSError):
            group.rmdir()


def fill_memory(url: str, pid: int) -> None:
    """Send large bodies to the gateway whose worker is `pid` until the kernel has killed it, at most ten seconds."""
    process = psutil.Process(pid)
    request = post(GENERATE, b'{"prompt": "' + b"x" * 8_000_000 + b'"}')
    until = time.monotonic() + 10
    with memory_limit(pid), ThreadPoolExecutor(8) as pool:
        while lives(process) and time.monotonic() < until:
            list(pool.map(lambda _: _send(url, request), range(8)))


def _send(url: str, request: bytes) -> None:
    with suppress(OSError):
        send(url, request)


class Clock:
    """A wall clock that jumps, for the programs that are started with `environ`."""

    def __init__(self, folder: Path) -> None:
        """Build it in a folder, where its jump is kept too. Raises Problem without a C compiler."""
        library, self._file = folder / "jumping_clock.so", folder / "jump"
        command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE)]
        if not shutil.which("gcc"):
            raise Problem("gcc is missing (Debian: apt-get install gcc libc6-dev)")
        subprocess.run(command, check=True)
        self.jump(0)
        self.environ = {"ld_preload": str(library), "clock_file": str(self._file)}

    def jump(self, seconds: int) -> None:
        """Set the clock so far from the true time."""
        self._file.write_text(str(seconds))
