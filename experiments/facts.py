"""What every report of an experiment says of how it was made."""

import os
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.stages import SECONDS, VARIATION
from loadtest.report import revision

SIMULATED = (
    "the engine's service time: a stand-in for Ollama sleeps {seconds:g} s on average (lognormal, deviation "
    "{variation:g} of the mean, at most 3 x the mean, drawn from the prompt, so that every system has the same "
    "work), one slot a pod"
)
REAL = (
    "Kubernetes, kube-proxy and every other program, with their images, manifests and probes; one machine holds the "
    "cluster and the clients"
)


def facts(arguments: Sequence[str], *, scale: float, variation: float = VARIATION) -> dict[str, Any]:
    """Return the command, the time, the machine, the revision, and what was simulated.

    scale: of every time; variation: of the service time.
    """
    return {
        "command": shlex.join(["python", "-m", "experiments", *arguments]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": revision(),
        "cpus": os.cpu_count(),
        "time_scale": scale,
        "simulated": SIMULATED.format(seconds=SECONDS * scale, variation=variation),
        "real": REAL,
    }


@contextmanager
def machine_busy(figures: dict[str, Any]) -> Iterator[None]:
    """Add `cpu_busy` and `seconds` to the figures: the share of this machine's CPU time that the block's run took."""
    started, before = time.monotonic(), _cpu_times()
    yield
    total, idle = (now - then for now, then in zip(_cpu_times(), before, strict=True))
    figures["cpu_busy"] = round(1 - idle / max(1, total), 3)
    figures["seconds"] = round(time.monotonic() - started, 1)


def _cpu_times() -> tuple[int, int]:
    """Return the ticks that all CPUs have had, and those that they were idle."""
    ticks = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks), ticks[3] + ticks[4]
