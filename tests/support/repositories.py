"""A repository as on GitHub, with main and the stages' branches, and clones of it as CI has them."""

import atexit
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from config import IMAGE_REPOSITORY, WEIGHTS_REPOSITORY, manifests_branch
from delivery.branch import Branch
from delivery.publish import publish
from delivery.signing import Keyring, create, stop_agent

REGISTRY = "localhost:5001"
PERSON = ("Ada", "ada@example.com")


def digest(letter: str) -> str:
    """Return a digest made of one hex digit."""
    return f"sha256:{letter * 64}"


def manifests(image: str, weights: str = "0", note: str = "", **more: str) -> dict[str, str]:
    """Return the files of a stage that name its digests, each made of one hex digit, and their models.

    weights: those of moondream. more: those of other models by their names, with _ for -.
    """
    named = f"image: {REGISTRY}/{IMAGE_REPOSITORY}@{digest(image)}\nnote: {note}\n" * 2
    files = _model("sluice", "moondream", named, weights)
    for name, its in more.items():
        model = name.replace("_", "-")
        files |= _model(f"sluice-{model}", model, named, its)
    return files


def _model(component: str, model: str, named: str, weights: str) -> dict[str, str]:
    reference = f"reference: {REGISTRY}/{WEIGHTS_REPOSITORY}@{digest(weights)}\n"
    return {
        f"configmap-{component}.yaml": f'data:\n  MODEL: {model}\n  SLOTS: "4"\n',
        f"deployment-{component}.yaml": named + reference,
    }


@cache
def ci_keys() -> Keyring:
    """Return CI's keyring, one a test process."""
    return _new_keys()


@cache
def other_keys() -> Keyring:
    """Return the keyring of somebody who would like to be CI."""
    return _new_keys()


def _new_keys() -> Keyring:
    home = Path(mkdtemp(prefix="sluice-test-keys-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    atexit.register(stop_agent, home)  # before the folder goes
    return create(home)


def git(repo: Path, *arguments: str, stdin: str | None = None, by: tuple[str, str] = PERSON, **more: str) -> str:
    """Run git as a person, with more variables, and return its output."""
    identity = {f"GIT_{role}_{key}": by[key == "EMAIL"] for role in ROLES for key in ("NAME", "EMAIL")}
    environ = os.environ | identity | more
    command = ["git", "-C", str(repo), *arguments]
    done = subprocess.run(command, input=stdin, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


ROLES = ("AUTHOR", "COMMITTER")


@dataclass
class Origin:
    """The bare repository at `path`; `main` is its main branch, oldest commit first."""

    path: Path
    main: list[str] = field(default_factory=list)

    def grow(self, count: int) -> list[str]:
        """Add commits to main and return them all."""
        tree = git(self.path, "mktree", stdin="")
        for _ in range(count):
            parent = ["-p", self.main[-1]] if self.main else []
            self.main.append(git(self.path, "commit-tree", tree, *parent, stdin=f"Change {len(self.main)}"))
        git(self.path, "update-ref", "refs/heads/main", self.main[-1])
        return self.main

    def clone(self, name: str = "clone", *, stage: str = "dev", **options: Any) -> Branch:
        """Return a stage's branch as a new clone with main's history sees it."""
        target = self.path.parent / name
        git(self.path, "clone", "--quiet", "--shared", "--branch", "main", str(self.path), str(target))
        return Branch(target, stage, ci_keys(), **options)

    def publish(self, branch: Branch, image: str, source: str) -> str:
        """Publish an image, named by one hex digit, and return the commit."""
        commit = publish(branch, folder=branch.store(manifests(image)), source=source, main=source)
        assert commit
        return commit

    def tip(self, ref: str = "stages/dev") -> str:
        """Return the object that a branch or tag is at."""
        return git(self.path, "rev-parse", ref)

    def log(self, arguments: str = "stages/dev", form: str = "%s") -> list[str]:
        """Return the log, newest first, a line a commit."""
        return git(self.path, "log", f"--format={form}", *arguments.split()).splitlines()

    def image(self, stage: str = "dev") -> str:
        """Return the hex digit of the image that a stage has."""
        text = git(self.path, "show", f"{manifests_branch(stage)}:{stage}/deployment-sluice.yaml")
        return text.partition("@sha256:")[2][0]

    def commit_by_hand(self, message: str, *, by: tuple[str, str] = PERSON, keys: Keyring | None = None) -> str:
        """Put a commit of somebody on dev's branch, with the tip's files, signed if there are keys."""
        options = [f"--gpg-sign={keys.signer}"] if keys else []
        home = {"GNUPGHOME": str(keys.home)} if keys else {}
        tip = self.tip()
        commit = git(self.path, "commit-tree", f"{tip}^{{tree}}", "-p", tip, *options, stdin=message, by=by, **home)
        git(self.path, "update-ref", "refs/heads/stages/dev", commit)
        return commit


def new_origin(folder: Path, commits: int = 5) -> Origin:
    """Make a repository with some commits on main."""
    path = folder / "origin.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(path)], check=True)
    origin = Origin(path)
    origin.grow(commits)
    return origin
