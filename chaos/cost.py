"""`python -m chaos cost`: what one request costs the gateway, in memory and in seconds of CPU."""

import argparse
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import psutil

from chaos import systems
from chaos.bodies import BODIES, Body
from launcher.console import say
from loadtest.reporting.document import Table
from loadtest.reporting.part import publish
from loadtest.reporting.target import result
from testbed.fetching import fetch
from testbed.gateway import Served

MIB = 2**20
PATIENCE = 30.0  # seconds
MOST_MIB, MOST_MS, MOST_IMAGE_MS = 64, 100, 300
HEAD = ["one request", "answer", "after", "memory", "CPU", "result"]
NOTE = (
    "Each request went to three gateways of its own, each warmed up by 20 others. Memory: the worker's highest above "
    "what it had before, and the highest of a process that it starts for the request; the most of the three. CPU: of "
    "both, from the first byte to the answer; the median of the three. Targets: ≤ 64 MiB; ≤ 100 ms, and ≤ 300 ms for "
    "the decoding of each image."
)


@dataclass(frozen=True)
class Cost:
    """What a request took. ms: of CPU."""

    status: str
    seconds: float
    mib: float
    ms: float

    def row(self, body: Body) -> list[str]:
        """Return the line of the table."""
        figures = [f"{self.seconds:.2f} s", f"+ {self.mib:.0f} MiB", f"{self.ms:.0f} ms"]
        return [body.name, self.status, *figures, result(self.met(body))]

    def met(self, body: Body) -> bool:
        """Say whether the targets were met; a request that nothing answers has missed them."""
        told = self.status.isdigit() and self.status != "500"
        return told and self.mib <= MOST_MIB and self.ms <= (MOST_MS + MOST_IMAGE_MS * body.images)

    @classmethod
    def of(cls, tries: Sequence["Cost"]) -> "Cost":
        """Return the most memory and the median times of some tries. If their answers differ, no target is met."""
        status = " or ".join(sorted({each.status for each in tries}))
        seconds, ms = (median(getattr(each, name) for each in tries) for name in ("seconds", "ms"))
        return cls(status, seconds, max(each.mib for each in tries), ms)


def send(url: str, data: bytes) -> str:
    """Send a request and return the answer's status, or what happened instead."""
    parts = urlsplit(url)
    seen = b""
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=PATIENCE) as sock:
        try:
            sock.sendall(data)
        except TimeoutError:
            return "never read"
        except OSError:
            pass  # an answer may have come before the end of the body
        with suppress(OSError):
            seen = sock.recv(4096)
    return seen[9:12].decode() if seen.startswith(b"HTTP/1.") else "none"


def cpu_seconds(worker: psutil.Process) -> float:
    """Return the CPU time of a process, to the nanosecond (its CPU clock's id: <linux/posix-timers.h>).

    That of the processes which it started, and which have ended, is added, to the hundredth of a second.
    """
    times = worker.cpu_times()
    return time.clock_gettime((~worker.pid << 3) | 2) + float(times.children_user + times.children_system)


@contextmanager
def helpers_watched(worker: psutil.Process) -> Iterator[list[float]]:
    """Note what the processes that the worker starts have in memory, in MiB, until the block ends."""
    seen, over = [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            with suppress(psutil.NoSuchProcess):
                seen.append(sum(each.memory_info().rss for each in worker.children()) / MIB)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield seen
    finally:
        over.set()
        watching.join()


def high_water(pid: int) -> float:
    """Return the most MiB that a process has had in memory since its mark was set back."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measure(served: Served, body: Body) -> Cost:
    """Send one request to a warm gateway."""
    for number in range(20):
        fetch(f"{served.url}/generate", {"prompt": f"{number} [seconds 0.01]", "max_tokens": 4})
    data, worker = body.make(), systems.worker(served)
    Path(f"/proc/{worker.pid}/clear_refs").write_text("5")  # sets the mark back: man 5 proc
    before, cpu, started = worker.memory_info().rss / MIB, cpu_seconds(worker), time.monotonic()
    with helpers_watched(worker) as helpers:
        status = send(served.url, data)
    seconds = time.monotonic() - started
    try:
        mib = high_water(worker.pid) - before + max(helpers)
        return Cost(status, seconds, mib, (cpu_seconds(worker) - cpu) * 1000)
    except (OSError, psutil.NoSuchProcess, StopIteration):
        return Cost(f"{status}, the worker died", seconds, float("inf"), float("inf"))


def costs(bodies: Iterable[Body]) -> Iterable[tuple[Body, Cost]]:
    """Measure each request at three gateways of its own."""
    with systems.Engine(seconds=0.05) as engine:
        for body in bodies:
            yield body, Cost.of([measure_alone(engine, body) for _ in range(3)])


def measure_alone(engine: systems.Engine, body: Body) -> Cost:
    """Measure a request at a gateway of its own."""
    with systems.gateway(engine.url) as served:
        return measure(served, body)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--only", default="", help="only requests whose name has this text")
    parser.add_argument("--publish", action="store_true", help="rewrite docs/reliability.md")


def run(options: argparse.Namespace) -> int:
    """Measure every request and return the exit code."""
    rows, met = [HEAD], True
    for body, cost in costs(body for body in BODIES if options.only in body.name):
        rows.append(cost.row(body))
        met = met and cost.met(body)
        say(" | ".join(rows[-1]))
    publish("reliability.md", "cost", Table(rows), command="python -m chaos cost", note=NOTE, rewrite=options.publish)
    return 0 if met else 1
