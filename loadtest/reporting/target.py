"""What a measurement was to reach, and whether it did."""

from collections.abc import Iterable, Sequence
from typing import TypedDict

from loadtest.reporting.document import Table, cell


class Target(TypedDict):
    """A figure and its limit, both as people read them, as report.json has it."""

    what: str
    limit: str
    value: float | str
    passed: bool


def new_target(what: str, value: float | str, limit: str, passed: bool) -> Target:
    """Return a target whose limit needs words."""
    return {"what": what, "limit": limit, "value": value, "passed": passed}


def at_least(what: str, value: float, limit: float) -> Target:
    """Return a target that `value` passes from `limit` on."""
    return new_target(what, value, f"≥ {limit:g}", value >= limit)


def at_most(what: str, value: float, limit: float) -> Target:
    """Return a target that `value` passes up to `limit`."""
    return new_target(what, value, f"≤ {limit:g}", value <= limit)


def all_passed(targets: Iterable[Target]) -> bool:
    """Say whether each target was reached."""
    return all(target["passed"] for target in targets)


def result(passed: bool) -> str:
    """Return the word for it in a table."""
    return "passed" if passed else "**failed**"


def targets_table(targets: Sequence[Target]) -> Table:
    """Return the table of what was to be reached."""
    figures = {
        "what": cell("what"),
        "measured": cell("value"),
        "target": cell("limit"),
        "result": lambda target: result(target["passed"]),
    }
    return Table.rows_of(targets, figures)
