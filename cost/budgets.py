"""Budgets of keys in dollars, and the marks of those that are spent in the file of keys (service/keys)."""

import math
import re
import tomllib
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from command_line import InputError

TABLE = re.compile(r'\[("[^"]*"|[^\]]*)\]')  # the head of a key's table
MARK = re.compile(r"\s*spent_until\s*=")


def read_budgets(file: Path) -> dict[str, float]:
    """Return the dollars that each key may use. Raises InputError."""
    try:
        budgets = tomllib.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{file} can't be read: {error}") from None
    for key, usd in budgets.items():
        if isinstance(usd, bool) or not isinstance(usd, int | float) or not 0 <= usd < math.inf:
            raise InputError(f"{file}: {key} must be a number of dollars, 0 or more")
    return budgets


def mark(file: Path, budgeted: Collection[str], spent: Collection[str], renews: datetime) -> None:
    """Have `spent_until` in the tables of the keys that are spent, and in no other. Raises InputError.

    The file is replaced at once, since gateways read it while they run. All else in it stays, comments too.
    """
    try:
        lines = file.read_text().splitlines()
        known = tomllib.loads("\n".join(lines))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} can't be read: {error}") from None
    if missing := [key for key in budgeted if key not in known]:
        raise InputError(f"{file} has no key {', '.join(missing)}, which has a budget")
    marked: list[str] = []
    for line in (each for each in lines if not MARK.match(each)):
        marked.append(line)
        if (table := TABLE.match(line)) and next(iter(tomllib.loads(table[0]))) in spent:
            marked.append(f"spent_until = {renews.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")
    scratch = file.with_name(f".{file.name}.new")
    try:
        scratch.write_text("\n".join(marked) + "\n")
        scratch.chmod(file.stat().st_mode)
        scratch.replace(file)
    except OSError as error:
        raise InputError(f"{file} can't be written: {error.strerror}") from None
