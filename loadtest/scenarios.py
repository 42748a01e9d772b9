"""The scenarios of scenarios.json, which run.js reads too."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

FILE = Path(__file__).with_name("scenarios.json")


class LoadStage(NamedTuple):
    """So many minutes in which the load changes evenly to `load`; in 0 minutes it jumps."""

    minutes: float
    load: float


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A shape of load over time.

    closed_loop: a load is users, each of whom asks the next question when the last one is answered. open_loop: it is
    times a rate at which questions arrive, whether or not earlier ones are answered. thresholds: k6's, by metric.
    """

    about: str
    loop: Literal["closed_loop", "open_loop"]
    start: float
    stages: tuple[LoadStage, ...]
    thresholds: Mapping[str, str]

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> Self:
        """Return the scenario that an entry of the file describes. Raises ValueError, which names the field."""
        wanted = {each.name for each in fields(cls)}
        if odd := entry.keys() ^ wanted:
            raise ValueError(f"{', '.join(sorted(odd))}: an entry has exactly {', '.join(sorted(wanted))}")
        return cls(**{**entry, "stages": tuple(LoadStage(**stage) for stage in entry["stages"])})

    @property
    def has_rate(self) -> bool:
        """Say whether its load is a rate, not users."""
        return self.loop == "open_loop"

    @property
    def minutes(self) -> float:
        """Return how long it takes."""
        return sum(stage.minutes for stage in self.stages)

    @property
    def peak(self) -> float:
        """Return the highest load."""
        return max(stage.load for stage in self.stages)

    @property
    def peak_shares(self) -> tuple[float, float]:
        """Return when the load reaches its peak and when it leaves it, as shares of the scenario's time."""
        times = accumulate((stage.minutes for stage in self.stages), initial=0.0)
        loads = [self.start, *(stage.load for stage in self.stages)]
        at_peak = [time for time, load in zip(times, loads, strict=True) if load == self.peak]
        return at_peak[0] / self.minutes, at_peak[-1] / self.minutes

    def describe(self, seconds: float | None = None) -> str:
        """Return the load over time in words. seconds: how long all of it takes, where not its own time."""
        times, noun = (" ×", " the rate") if self.has_rate else ("", " users")
        load, parts = self.start, list[str]()
        for minutes, then in self.stages:
            if minutes:
                took = f"{minutes:g} min" if seconds is None else f"{seconds * minutes / self.minutes:g} s"
                change = f"{then:g}{times}{noun} for" if then == load else f"{load:g} to {then:g}{times}{noun} in"
                parts.append(f"{change} {took}")
                noun = ""
            load = then
        return ", ".join(parts)


def read_all(text: str) -> dict[str, Scenario]:
    """Return the scenarios of the file. Raises ValueError, which names the entry."""
    found = dict[str, Scenario]()
    for name, entry in json.loads(text).items():
        try:
            found[name] = Scenario.read(entry)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{name}: {error}") from None
    return found


try:
    SCENARIOS = read_all(FILE.read_text())
except ValueError as problem:  # of an entry as somebody has written it
    sys.exit(f"sluice: loadtest/scenarios.json: {problem}")
