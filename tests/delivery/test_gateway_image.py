"""A commit that changes nothing in the gateway's image doesn't give it another label or another time."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from testbed import ROOT
from testbed.tools import need_tool
from tests.support.repositories import git


@pytest.mark.usefixtures("programs")
def test_the_image_has_the_commit_and_the_time_at_which_its_files_changed_last(tmp_path: Path) -> None:
    need_tool("jq", "jq")
    steps = yaml.safe_load((ROOT / ".github/workflows/deliver.yml").read_text())["jobs"]["build"]["steps"]
    [find] = [step["run"] for step in steps if step.get("id") == "context"]
    [build] = [step for step in steps if step.get("id") == "build"]
    assert build["with"]["build-args"] == "REVISION=${{ steps.context.outputs.revision }}"
    assert build["env"]["SOURCE_DATE_EPOCH"] == "${{ steps.context.outputs.time }}"
    repo = tmp_path / "repo"
    subprocess.run(["git", "init", "--quiet", str(repo)], check=True)
    for name in (".dockerignore", "cdk.json"):
        shutil.copy(ROOT / name, repo)

    def commit(name: str, minute: int) -> str:
        (repo / name).parent.mkdir(exist_ok=True)
        (repo / name).write_text(str(minute))
        git(repo, "add", "--all")
        git(repo, "commit", "--quiet", "--message", name, GIT_COMMITTER_DATE=f"2026-11-27T10:{minute:02}:00Z")
        return git(repo, "rev-parse", "HEAD")

    def found() -> dict[str, str]:
        output = tmp_path / "output"
        output.write_text("")
        environ = os.environ | {"GITHUB_OUTPUT": str(output)}
        subprocess.run(["bash", "-eo", "pipefail", "-c", find], cwd=repo, env=environ, check=True)
        return dict(line.split("=", 1) for line in output.read_text().splitlines())

    code = commit("service/front.py", 1)
    before = found()
    assert before["revision"] == code
    for minute, name in enumerate(("README.md", "delivery/weights.json", "config/stages.py"), 2):
        commit(name, minute)
        assert found() == before
    for minute, name in enumerate(("launcher/x.py", "uv.lock", "pyproject.toml", "service/Dockerfile"), 10):
        changed = commit(name, minute)
        assert found()["revision"] == changed
    assert int(found()["time"]) - int(before["time"]) == 12 * 60
