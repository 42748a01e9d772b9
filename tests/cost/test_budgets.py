"""Keys whose budget is spent are marked in their file, which says until when."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from command_line import InputError
from cost.bill import main
from cost.budgets import mark, read_budgets
from service.keys import Keys, digest
from tests.cost.test_bill import POD_HOUR, STAGE, offered, used
from tests.support.api_keys import SERVED

RENEWS = datetime(2026, 12, 1, tzinfo=UTC)
FILE = f"""# of the team
[alice]  # its lead
sha256 = "{digest("a")}"
spent_until = 2026-11-01T00:00:00Z
concurrent = 4

["bob ]"]
sha256 = "{digest("b")}"
"""


def marked(text: str, path: Path, spent: list[str]) -> str:
    path.write_text(text)
    mark(path, spent, spent, RENEWS)
    Keys(path, SERVED)  # reads it
    return path.read_text()


def test_what_is_spent_is_marked_and_all_else_stays(tmp_path: Path) -> None:
    after = marked(FILE, tmp_path / "keys.toml", ["bob ]"])
    without = FILE.replace("spent_until = 2026-11-01T00:00:00Z\n", "")
    assert after == without.replace('["bob ]"]\n', '["bob ]"]\nspent_until = 2026-12-01T00:00:00Z\n')
    assert marked(after, tmp_path / "keys.toml", []) == without


def test_the_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(FILE)
    path.chmod(0o640)
    mark(path, ["alice"], ["alice"], RENEWS)
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["keys.toml"]


def test_a_bill_marks_who_has_used_more_than_its_budget(tmp_path: Path) -> None:
    keys, budgets, log = (tmp_path / name for name in ("keys.toml", "budgets.toml", "log"))
    keys.write_text(FILE)
    half = POD_HOUR / 60 / 2
    budgets.write_text(f'alice = {half}\n"bob ]" = {half}\n')
    log.write_text("\n".join([offered(1), used(1, "alice", 130), used(1, "bob ]", 100)]))
    options = ["--budgets", str(budgets), "--keys", str(keys), "--from", "2026-11-01", "--to", "2026-12-01"]
    assert main([*STAGE, *options, str(log)]) == 0
    assert "[alice]  # its lead\nspent_until = 2026-12-01T00:00:00Z" in keys.read_text()
    assert keys.read_text().count("spent_until") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alice = -1", "alice must be a number of dollars, 0 or more"),
        ("alice = true", "alice must be a number of dollars, 0 or more"),
        ("alice = nan", "alice must be a number of dollars, 0 or more"),
        ("alice", "can't be read: "),
    ],
)
def test_a_bad_file_of_budgets_is_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "budgets.toml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_budgets(tmp_path / "budgets.toml")


def test_a_budget_of_a_key_that_is_not_there_is_named_and_nothing_changes(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text(FILE)
    with pytest.raises(InputError, match=r"keys.toml has no key carol, which has a budget"):
        mark(tmp_path / "keys.toml", ["alice", "carol"], ["alice"], RENEWS)
    assert (tmp_path / "keys.toml").read_text() == FILE
