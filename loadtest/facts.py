"""What every report of an experiment says of how it was made."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil

from loadtest.on_cluster.stages import SECONDS, VARIATION
from loadtest.reporting.folder import Report, new_report

SIMULATED = (
    "the engine's service time: a stand-in for Ollama sleeps {seconds:g} s on average (lognormal, deviation "
    "{variation:g} of the mean, at most 3 x the mean, drawn from the prompt, so that every system has the same "
    "work), one slot a pod"
)
REAL = (
    "Kubernetes, kube-proxy and every other program, with their images, manifests and probes; one machine holds the "
    "cluster and the clients"
)


def facts(name: str, arguments: Sequence[str], *, scale: float, variation: float = VARIATION) -> Report:
    """Return what a report begins with, and what was simulated.

    scale: of every time; variation: of the service time.
    """
    return new_report(name, ["loadtest.experiments", *arguments]) | {
        "experiment": arguments[0],
        "time_scale": scale,
        "simulated": SIMULATED.format(seconds=SECONDS * scale, variation=variation),
        "real": REAL,
    }


@contextmanager
def machine_busy(figures: Report) -> Iterator[None]:
    """Add `cpu_busy` and `seconds` to the figures: the share of this machine's CPU time that the block's run took."""
    started, _ = time.monotonic(), psutil.cpu_percent()  # whose next call counts from here
    yield
    figures["cpu_busy"] = round(psutil.cpu_percent() / 100, 3)
    figures["seconds"] = round(time.monotonic() - started, 1)
