"""Service times out of a load run's report.json, which has only what a client sees."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from command_line import InputError
from planning.speeds import Speeds
from planning.workload import Numbers

FEWEST = 100  # requests, of which a 95th percentile can be told


def read_report(path: Path, *, slots: int, speeds: Speeds) -> Numbers:
    """Return the seconds that requests took where none waited, each as on a pod of its own.

    slots: of a pod. speeds: how much its slots slow each other, as a share at each count. A request waited for nobody
    if fewer were under way all along than there were slots, which needs the report's samples. Raises InputError.
    """
    try:
        report = json.loads(path.read_text())
        requests, ready = report["requests"], [sample["ready"] for sample in report["samples"] if sample["ready"]]
    except (OSError, ValueError) as error:
        raise InputError(f"--report {path} can't be read: {error}") from None
    except (LookupError, TypeError):
        raise InputError(f"--report {path} is no report of `make load`") from None
    if not ready:
        raise InputError(f"--report {path} has no samples of the cluster: give `make load` --namespace")
    seconds = _unhindered(requests, min(ready), slots, speeds.decode_with(slots))
    if len(seconds) < FEWEST:
        raise InputError(
            f"--report {path} has {len(seconds)} requests that found a free slot and needs {FEWEST}: run `make load` "
            "at a lower rate or for longer"
        )
    return np.array(seconds)


def _unhindered(requests: list[list[Any]], replicas: int, slots: int, shares: list[float]) -> list[float]:
    """Return the work of the answers before which there was always a free slot."""
    changes = sorted([(begun, 1) for begun, *_ in requests] + [(begun + took, -1) for begun, took, *_ in requests])
    times = np.array([when for when, _ in changes])
    under_way = np.cumsum([change for _, change in changes])
    found = []
    for begun, took, outcome, attempts in requests:
        first, last = np.searchsorted(times, [begun, begun + took])
        during = under_way[first:last]
        if outcome != "answered" or attempts != 1 or not len(during) or during.max() > replicas * slots:
            continue
        lasting = [after - before for before, after in pairwise(times[first : last + 1])]
        share = np.interp(during / replicas, range(1, slots + 1), shares[1:])
        found.append(float(np.dot(lasting, share)))
    return found
