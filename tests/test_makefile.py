"""What `make` hands to the programs, and what it prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.reporting.folder import as_json
from testbed import ROOT
from tests.support.reports import steady

BIN = Path(sys.executable).parent
PAGES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make with this Python and its packages, and nothing installed."""
    installed = ["PATH_UV=true", "RUN="]  # `true sync` installs nothing
    environ = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(["make", *installed, *arguments], cwd=ROOT, env=environ, capture_output=True, text=True)


@pytest.mark.usefixtures("programs")
def test_a_path_may_have_spaces_and_quotes(tmp_path: Path) -> None:
    folders = [tmp_path / "last night's", tmp_path / 'the "new" one']
    for seed, folder in enumerate(folders):
        folder.mkdir()
        (folder / "report.json").write_text(as_json(steady(seed)))
    done = make("compare-reports", f"A={folders[0]}", f"B={folders[1]}")
    assert done.returncode == 0, done.stderr
    assert "Nothing got worse by more than noise." in done.stdout


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["doctor"], "STAGE"),
        (["compare-reports", "A=x"], "B"),
        (["load", "SCENARIO=steady"], "TARGET"),
        (["tune", "MODEL=moondream", "SLO_TOKENS=5"], "SLO_FIRST_TOKEN"),
        (["render", "STAGE=dev", "IMAGE=x", "WEIGHTS=x"], "OUT"),
    ],
)
def test_a_missing_variable_is_named(arguments: list[str], missing: str) -> None:
    done = make(*arguments)
    assert done.returncode == 2
    assert f"{missing} is missing: make {arguments[0]} {missing}=" in done.stderr


@pytest.mark.usefixtures("programs")
def test_without_node_what_needs_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "bash").symlink_to("/bin/bash")
    for target in ("demo", "balancing", "autoscale"):
        done = make(target, f"PATH={tmp_path}", "SHELL=/bin/bash")
        assert done.returncode == 2
        assert "sluice: Node.js is missing: install version 22 or newer\n" in done.stderr


@pytest.mark.usefixtures("programs")
def test_a_password_in_an_address_is_not_printed() -> None:
    done = make("load", "SCENARIO=steady", "TARGET=http://ada:secret@127.0.0.1:9", "OPTIONS=--rate 0")
    assert done.returncode == 2
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_every_target_that_a_page_names_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = re.findall(r"(?:^|`)make ([a-z0-9-]+)", (ROOT / page).read_text(), re.M)
    assert set(named) <= targets
