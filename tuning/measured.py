"""What looks at a setting found."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.reporting.statistics import percentile


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The figures of one look at a setting, or of several.

    rate: tokens/s of all callers together. slowest: tokens/s after the first token of the caller who got the fewest.
    first_tokens: seconds from each request to its first token. memory_mib: the most that llama-server has held, None
    where that can't be seen. efficiency: tokens per CPU second of llama-server, its reading of prompts included, which
    other load changes less than the rest; None where that can't be seen. others: the share, 0 to 1, of the CPUs that
    something else used meanwhile.
    """

    rate: float
    slowest: float
    first_tokens: tuple[float, ...]
    memory_mib: int | None
    efficiency: float | None
    others: float
    looks: int = 1

    @property
    def p95_first_token(self) -> float:
        """Return the seconds to the first token that 95 % of the requests don't exceed."""
        return percentile(self.first_tokens, 0.95) if self.first_tokens else 0.0


def together(looks: Sequence[Measured]) -> Measured:
    """Return several looks at one setting as one; there is at least one."""
    seen = [look.memory_mib for look in looks if look.memory_mib is not None]
    efficient = [look.efficiency for look in looks if look.efficiency is not None]
    return Measured(
        rate=statistics.mean(look.rate for look in looks),
        slowest=statistics.mean(look.slowest for look in looks),
        first_tokens=tuple(each for look in looks for each in look.first_tokens),
        memory_mib=max(seen, default=None),
        efficiency=statistics.mean(efficient) if efficient else None,
        others=max(look.others for look in looks),
        looks=len(looks),
    )
