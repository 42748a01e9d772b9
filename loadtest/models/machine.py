"""The machine under the measurement: what it is, what else runs on it, and what the model takes of it."""

import os
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from loadtest.models.server import Server
from service.cpus import available_cpus

MIB = 2**20
BUSY = ("user", "nice", "system", "irq", "softirq", "steal")  # guest is in user; idle and iowait are free to take


def describe() -> dict[str, Any]:
    """Return CPUs, memory and load; no name of the machine."""
    return {
        "cpus": available_cpus(),
        "cpu": _cpu_name(),
        "machine": platform.machine(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def _cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:
        return "unknown"
    return found[1] if found else "unknown"


def load_average() -> float:
    """Return how many threads ran or waited on average over the last minute."""
    return round(os.getloadavg()[0], 2)


def llama_server(server: Server) -> psutil.Process | None:
    """Return the process that holds the model; None where it can't be told, as on another machine."""
    pid = server.pid or _listener(server.url)
    if pid is None:
        return None
    found = [
        each for each in psutil.Process(pid).children(recursive=True) if "llama-server" in " ".join(_command(each)[:1])
    ]
    return found[0] if len(found) == 1 else None


def _listener(url: str) -> int | None:
    """Return the process on this machine that listens on the URL's port, if it can be seen."""
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost"):
        return None
    try:
        found = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return None
    return next((each.pid for each in found if each.status == "LISTEN" and each.laddr[1:2] == (parts.port,)), None)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended, or is somebody else's
        return []


def peak_mib(process: psutil.Process) -> int | None:
    """Return the most memory that a process has held, in MiB; None if it has ended."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) // 1024 if found else None


def forget(files: Sequence[Path]) -> bool:
    """Drop files from the page cache, so that the next read comes from the disk; False where they aren't ours."""
    try:
        for file in files:
            with file.open("rb") as content:
                os.posix_fadvise(content.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        return False
    return bool(files)


class Others:
    """How much of the CPUs was used by what isn't measured, since this was made."""

    def __init__(self, ours: Sequence[psutil.Process]) -> None:
        self._ours = [*ours, psutil.Process()]
        self._before = self._used()

    def share(self) -> float:
        """Return the share, 0 to 1, of all CPUs in that time."""
        everybody, ours, at = (now - then for now, then in zip(self._used(), self._before, strict=True))
        return round(min(1.0, max(0.0, everybody - ours) / (at * (psutil.cpu_count() or 1))), 3)

    def _used(self) -> tuple[float, float, float]:
        """Return seconds of CPU of all, seconds of ours, and the time."""
        times = psutil.cpu_times()
        ours = [process.cpu_times() for process in self._ours]
        everybody = sum(getattr(times, name) for name in BUSY)
        return everybody, sum(each.user + each.system for each in ours), time.monotonic()
