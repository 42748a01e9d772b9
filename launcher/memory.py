"""How much memory Ollama may take, so that a request that makes it take all ends Ollama and not the machine.

The limit is RLIMIT_DATA, on each of Ollama's processes: it counts what a process has written or may write for itself
(heaps, key-value caches, weights that were copied), not files that are only mapped, such as weights that are read where
they lie, nor the address space that Go reserves, which RLIMIT_AS does. It needs no rights and works in a container. A
memory cgroup would count the processes together, but a user can't make one on every machine.
"""

import contextlib
import resource
from pathlib import Path

SHARE = 0.9  # of the memory that is free when Ollama starts, without a setting


def limit_memory(pid: int, mib: int) -> None:
    """Limit a process, and every one that it starts from now on; one that has ended needs none."""
    with contextlib.suppress(ProcessLookupError):
        hard = resource.prlimit(pid, resource.RLIMIT_DATA)[1]
        limit = mib << 20 if hard == resource.RLIM_INFINITY else min(mib << 20, hard)
        resource.prlimit(pid, resource.RLIMIT_DATA, (limit, limit))


def default_mib(root: Path = Path("/")) -> int:
    """Return what each of Ollama's processes may take on this machine, or in this container, as it is now.

    root: where /proc and /sys are.
    """
    figures = [free_mib(root / "proc/meminfo")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of cgroup v2 and v1; "max" where there is none
        with contextlib.suppress(OSError, ValueError):
            figures.append(int((root / "sys/fs/cgroup" / name).read_text()) >> 20)
    return int(SHARE * min(figures))


def free_mib(meminfo: Path) -> int:
    """Return the memory that programs can have without others being swapped out."""
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) >> 10
