"""A service level, settings to choose from, and what was measured with one."""

from typing import Any

from tuning.measured import Measured
from tuning.objective import Slo
from tuning.setting import Setting

SLO = Slo(first_token=2.0, tokens=5.0)
USUAL = Setting(slots=4, threads=2)
CHOICES: dict[str, list[Any]] = {
    "slots": [2, 4, 8, 16],
    "threads": [1, 2],
    "batch": [0, 128, 256],
    "flash": ["on", "off"],
    "kv": ["f16", "q8_0", "q4_0"],
    "speculation": ["none", "ngram-simple", "ngram-mod", "ngram-cache"],
}


def found(rate: float = 40.0, slowest: float = 10.0, first: float = 1.0, **more: Any) -> Measured:
    """Return what a look at a setting found; rates in tokens/s, first in seconds."""
    return Measured(
        **{
            "rate": rate,
            "slowest": slowest,
            "first_tokens": (first,),
            "memory_mib": 300,
            "efficiency": 20.0,
            "others": 0.0,
            **more,
        }
    )
