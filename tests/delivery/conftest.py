from collections.abc import Callable
from pathlib import Path

import pytest

from delivery import __main__ as command_line
from delivery.branch import Branch
from tests.support.repositories import Origin, ci_keys, new_origin

# Runs a command in the clone, as a job with CI's key does, and returns its exit code and outputs.
Command = Callable[..., tuple[int, dict[str, str]]]


@pytest.fixture
def origin(programs: None, tmp_path: Path) -> Origin:
    return new_origin(tmp_path)


@pytest.fixture
def branch(origin: Origin) -> Branch:
    return origin.clone()


@pytest.fixture
def prod(branch: Branch) -> Branch:
    return Branch(branch.repo, "prod", branch.keys)


@pytest.fixture
def command(branch: Branch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    monkeypatch.chdir(branch.repo)
    monkeypatch.setattr(command_line, "public_keys", ci_keys().export)
    output = tmp_path / "output"

    def run(*arguments: str, key: str | None = None) -> tuple[int, dict[str, str]]:
        output.write_text("")
        key = ci_keys().export_private() if key is None else key
        code = command_line.main([*arguments], {"GITHUB_OUTPUT": str(output), "SIGNING_KEY": key})
        return code, dict(line.split("=", 1) for line in output.read_text().splitlines())

    return run
