"""Runs of loadtest/, several at the same time, each against a system of its own."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loadtest.address import Address
from loadtest.k6 import CannotRun
from loadtest.on_cluster.stages import STAND_IN
from loadtest.plan import Plan
from loadtest.reporting.folder import Report
from loadtest.run import measure


class LoadFailed(Exception):
    """A run left no report; the message says why."""


class Endpoint(NamedTuple):
    """Where a system answers, and in which API's words."""

    url: str
    api: str


def ramps(targets: Mapping[str, Endpoint], *, scale: float, model: str = STAND_IN.name, **more: Any) -> list[Report]:
    """Run the ramp against every target at once and return the reports; scale multiplies every time.

    more: of the plan. Without the probe, for one of the APIs has no streams. Raises LoadFailed.
    """
    fixed = {"scenario": "ramp", "model": model, "time_scale": scale, "probe": False, "out": Path(), **more}
    systems = targets.items()
    return run_plans([Plan(target=Address(each.url), api=each.api, name=name, **fixed) for name, each in systems])


def run_plans(plans: Sequence[Plan]) -> list[Report]:
    """Run the plans at the same time and return their reports. Raises LoadFailed, or KeyboardInterrupt after Ctrl-C."""
    try:
        reports = asyncio.run(measure(*plans))
    except CannotRun as problem:
        raise LoadFailed(str(problem)) from None
    if any(report["interrupted"] for report in reports):
        raise KeyboardInterrupt
    return reports
