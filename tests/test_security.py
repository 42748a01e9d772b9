"""What SECURITY.md promises has a test that exists."""

import ast
import re
from functools import cache

import pytest

from testbed import ROOT

ROWS = [
    line
    for line in (ROOT / "SECURITY.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| can't |")
]
NAMED = re.compile(r"`(tests/\w+(?:/\w+)*\.py)::(test_\w+)`")


@cache
def those_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split(" | ")[0].strip("| "))
def test_behind_every_cant_is_a_test(row: str) -> None:
    named = NAMED.findall(row)
    assert named
    assert [name for path, name in named if name not in those_in(path)] == []


def test_every_attacker_has_a_table() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    for attacker in ("outsider", "greedy key", "hostile web page", "co-tenant", "compromised pod"):
        assert f"## The {attacker}: " in text
    assert len(ROWS) >= 30
