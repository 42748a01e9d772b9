"""A repository as on GitHub, with main and the manifests branch, and clones of it as CI has them."""

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config import IMAGE_REPOSITORY, MANIFESTS_BRANCH, WEIGHTS_REPOSITORY
from delivery.branch import Branch
from delivery.publish import publish

REGISTRY = "localhost:5001"
PERSON = ("Ada", "ada@example.com")


def digest(letter: str) -> str:
    """Return a digest made of one hex digit."""
    return f"sha256:{letter * 64}"


def manifests(image: str, weights: str = "0", note: str = "") -> dict[str, str]:
    """Return the two files of a stage that name its digests, each made of one hex digit."""
    return {
        "deployment.yaml": f"image: {REGISTRY}/{IMAGE_REPOSITORY}@{digest(image)}\nnote: {note}\n" * 2,
        "weights.yaml": f"reference: {REGISTRY}/{WEIGHTS_REPOSITORY}@{digest(weights)}\n",
    }


def git(repo: Path, *arguments: str, stdin: str | None = None, by: tuple[str, str] = PERSON) -> str:
    """Run git as a person and return its output."""
    environ = os.environ | {f"GIT_{role}_{key}": by[key == "EMAIL"] for role in ROLES for key in ("NAME", "EMAIL")}
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

    def clone(self, name: str = "clone", **options: Any) -> Branch:
        """Return the branch as a new clone with main's history sees it."""
        target = self.path.parent / name
        git(self.path, "clone", "--quiet", "--shared", "--branch", "main", str(self.path), str(target))
        return Branch(target, **options)

    def publish(self, branch: Branch, stage: str, image: str, source: str) -> str:
        """Publish an image, named by one hex digit, and return the commit."""
        commit = publish(branch, stage=stage, files=manifests(image), source=source, about=f"image {image}")
        assert commit
        return commit

    def tip(self, ref: str = f"refs/heads/{MANIFESTS_BRANCH}") -> str:
        """Return the commit of a ref."""
        return git(self.path, "rev-parse", ref)

    def log(self, arguments: str = MANIFESTS_BRANCH, form: str = "%s") -> list[str]:
        """Return the log, newest first, a line a commit."""
        return git(self.path, "log", f"--format={form}", *arguments.split()).splitlines()

    def image(self, stage: str, ref: str = MANIFESTS_BRANCH) -> str:
        """Return the hex digit of the image that a stage has."""
        return git(self.path, "show", f"{ref}:{stage}/deployment.yaml").partition("@sha256:")[2][0]

    def commit_by_hand(self, message: str, *parents: str, by: tuple[str, str] = PERSON, tree: str = "") -> str:
        """Put a commit of somebody on the branch, with the last parent's files unless `tree` is another commit."""
        parents = parents or (self.tip(),)
        options = [option for parent in parents for option in ("-p", parent)]
        files = f"{tree or parents[-1]}^{{tree}}"
        commit = git(self.path, "commit-tree", files, *options, stdin=message, by=by)
        git(self.path, "update-ref", f"refs/heads/{MANIFESTS_BRANCH}", commit)
        return commit


def new_origin(folder: Path, commits: int = 5) -> Origin:
    """Make a repository with some commits on main."""
    path = folder / "origin.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(path)], check=True)
    origin = Origin(path)
    origin.grow(commits)
    return origin
