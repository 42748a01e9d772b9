"""How many CPUs this process may use."""

import os
from pathlib import Path


def available_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many CPUs this process may use, at least 1; cgroup: where the kernel shows its limits.

    The affinity mask and the cgroup's CPU quota both count. Ollama sees only the former, and is 10 to 45 times slower
    with more threads than CPUs.
    """
    cpus = float(len(os.sched_getaffinity(0)))
    try:
        if (cgroup / "cpu.max").exists():  # cgroup v2: "QUOTA PERIOD", or "max PERIOD"
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text()
        if quota not in ("max", "-1"):
            cpus = min(cpus, int(quota) / int(period))
    except (OSError, ValueError):
        pass  # without Linux's usual cgroup files, only the mask counts
    return max(1, int(cpus))
