"""What a system's processes hold and what its engine did during a ramp: memory over time, and answers generated."""

import re
import statistics
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from loadtest.compare import Comparison, drift
from loadtest.real_ramp.systems import System

EVERY = 1.0  # seconds between two looks at the memory
ENGINE = ("ollama", "llama-server")  # Ollama's processes by their names
# llama-server's line when it has finished an answer: "eval time = 480.55 ms / 14 tokens", not that of the prompt.
FINISHED = re.compile(rb"(?<!prompt )eval time =[^/\n]*/\s*(\d+) tokens")
LOADED = b'msg="starting llama-server"'  # Ollama's line; each llama-server loads the model
Sample = tuple[float, float, float]  # seconds since 1970; MiB of Ollama's processes, and of all others of the system


@contextmanager
def watched(system: System, samples: list[Sample], *, every: float = EVERY) -> Iterator[None]:
    """Add a sample of the system's memory every so many seconds until the block ends."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(every):
            samples.append((time.time(), *memory_mib(system.roots)))

    thread = threading.Thread(target=look, name="memory")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def memory_mib(roots: Iterable[int]) -> tuple[float, float]:
    """Return the MiB of Ollama's processes and of all others among the roots and what they started.

    Proportional set size: a page that several processes share counts once. One that has just ended counts nothing.
    """
    engine = others = 0.0
    for process in _family(roots):
        with suppress(psutil.Error):
            mib = process.memory_full_info().pss / 2**20
            if process.name().startswith(ENGINE):
                engine += mib
            else:
                others += mib
    return round(engine, 1), round(others, 1)


def _family(roots: Iterable[int]) -> set[psutil.Process]:
    found: set[psutil.Process] = set()
    for root in roots:
        with suppress(psutil.Error):
            process = psutil.Process(root)
            found |= {process, *process.children(recursive=True)}
    return found


def memory_drift(samples: Sequence[Sequence[float]], seconds: float) -> Comparison | None:
    """Compare Ollama's memory in the last third of a ramp with the first; None where the samples are too few.

    samples: seconds since the ramp began, and the two figures of memory_mib().
    """
    looks = [{"at": at, "memory_mib": {"ollama": engine}} for at, engine, _ in samples]
    return next(drift({"seconds": seconds, "requests": [], "samples": looks}), None)


def generated(log: Path, since: int) -> dict[str, Any]:
    """Return what the engine did since a position in its log.

    answers: how many it finished; tokens: their median; loads: how often it loaded the model again.
    """
    with log.open("rb") as file:
        file.seek(since)
        lines = file.read()
    tokens = [int(found) for found in FINISHED.findall(lines)]
    median = statistics.median(tokens) if tokens else None
    return {"answers": len(tokens), "tokens": median, "loads": lines.count(LOADED)}
