import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.memory import SHARE, default_mib, limit_memory

GREEDY = "import sys; sys.stdin.read(); block = bytearray(1 << 30); print(len(block))"


@pytest.fixture
def greedy(programs: None) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that takes 1 GiB when its input ends."""
    command = [sys.executable, "-c", GREEDY]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def test_a_process_that_takes_more_than_its_limit_ends(greedy: subprocess.Popen[str]) -> None:
    limit_memory(greedy.pid, 256)
    assert "MemoryError" in greedy.communicate()[1]


def test_a_process_within_its_limit_lives(greedy: subprocess.Popen[str]) -> None:
    limit_memory(greedy.pid, 2048)
    assert greedy.communicate()[0].strip() == f"{1 << 30}"


def test_a_tighter_limit_of_the_users_own_stays(greedy: subprocess.Popen[str]) -> None:
    resource.prlimit(greedy.pid, resource.RLIMIT_DATA, (1 << 28, 1 << 29))
    limit_memory(greedy.pid, 4096)
    assert resource.prlimit(greedy.pid, resource.RLIMIT_DATA) == (1 << 29, 1 << 29)


@pytest.mark.usefixtures("programs")
def test_a_process_that_has_ended_needs_no_limit() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        limit_memory(process.pid, 256)


def machine(root: Path, free_kib: int, **cgroup: str) -> Path:
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable:   {free_kib} kB\n")
    (root / "sys/fs/cgroup/memory").mkdir(parents=True)
    for name, text in cgroup.items():
        (root / "sys/fs/cgroup" / {"v2": "memory.max", "v1": "memory/memory.limit_in_bytes"}[name]).write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroup", "mib"),
    [({}, 8192), ({"v2": "max\n"}, 8192), ({"v2": f"{4 << 30}\n"}, 4096), ({"v1": f"{2 << 30}\n"}, 2048)],
)
def test_without_a_setting_it_is_most_of_what_is_free(tmp_path: Path, cgroup: dict[str, str], mib: int) -> None:
    assert default_mib(machine(tmp_path, 8 << 20, **cgroup)) == int(SHARE * mib)


def test_this_machine_has_a_figure() -> None:
    assert default_mib() > 0
