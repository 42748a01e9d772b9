"""What the work takes in joules, where the machine can say: the CPU's own meter (RAPL), or NVIDIA's GPUs."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
INTERVAL = 0.2  # seconds between two readings of a GPU's power


class Energy:
    """The meters there are. They count the whole package or card, so whatever else runs there counts too."""

    def __init__(self, powercap: Path = POWERCAP, smi: str | None = shutil.which("nvidia-smi")) -> None:
        zones = sorted(powercap.glob("intel-rapl:*"))  # AMD's are named so too
        self._zones = [zone for zone in zones if zone.name.count(":") == 1 and os.access(zone / "energy_uj", os.R_OK)]
        self._smi = smi if smi and _watts(smi) is not None else None
        names = [("the CPU's meter (RAPL)", bool(self._zones)), ("nvidia-smi", bool(self._smi))]
        self.source = " and ".join(name for name, there in names if there)  # "": energy can't be known here

    @contextmanager
    def measured(self) -> Iterator[list[float]]:
        """Yield a list that has the joules of the block after its end; it stays empty without a meter."""
        used: list[float] = []
        before = [_microjoules(zone) for zone in self._zones]
        if self._smi is None:
            yield used
        else:
            with _sampled(self._smi) as joules:
                yield used
            used.append(sum(joules))
        if self._zones:
            used.append(sum(_spent(zone, then) for zone, then in zip(self._zones, before, strict=True)))


def _microjoules(zone: Path, name: str = "energy_uj") -> int:
    return int((zone / name).read_text())


def _spent(zone: Path, before: int) -> float:
    """Return joules since `before`; the counter starts again at its end."""
    spent = _microjoules(zone) - before
    return (spent if spent >= 0 else spent + _microjoules(zone, "max_energy_range_uj")) / 1e6


@contextmanager
def _sampled(smi: str) -> Iterator[Sequence[float]]:
    """Yield a list of joules, a piece for each reading of the GPUs' power until the block ends."""
    joules: list[float] = []
    stop = threading.Event()

    def sample() -> None:
        started = time.monotonic()
        while not stop.wait(INTERVAL):
            watts, now = _watts(smi) or 0.0, time.monotonic()
            joules.append(watts * (now - started))
            started = now

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield joules
    finally:
        stop.set()
        thread.join()


def _watts(smi: str) -> float | None:
    """Return what all GPUs draw; None if nvidia-smi can't say."""
    command = [smi, "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return sum(float(line) for line in done.stdout.splitlines())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
