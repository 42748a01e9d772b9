"""The manifests branch: one folder per stage, plain YAML, written only by CI and only by fast-forward.

A commit is the tip's tree with one folder replaced. It is made without a work tree, so nothing can conflict, and the
clone's own files don't change.
"""

import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from config import IMAGE_REPOSITORY, MANIFESTS_BRANCH, WEIGHTS_REPOSITORY
from delivery.git import COMMITTER_EMAIL, attempt, failed, git

SOURCE, REVERTS = "Source-Commit", "Reverts"  # trailers: the rendered commit of main; the reverted commit
GITHUB_EMAIL = "noreply@github.com"  # the committer of what a person merges on GitHub
ATTEMPTS = 30  # a writer loses the race at most once to each of the others
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds
# How git and GitHub say that another writer was first.
LOST = ("fetch first", "non-fast-forward", "cannot lock ref", "failed to update ref", "incorrect old value")


class Refused(Exception):
    """The operation isn't allowed; the message is one sentence that says why, and what is allowed."""


@dataclass(frozen=True)
class Release:
    """What a stage runs from a commit of the branch on.

    source: the commit of main it was rendered from. reverts: whether it reverts another release.
    """

    commit: str
    source: str
    reverts: bool


@dataclass(frozen=True)
class Branch:
    """The branch at `remote`, seen through a clone that also has main's history. Methods raise GitError and Refused."""

    repo: Path
    remote: str = "origin"
    pause: Callable[[float], object] = time.sleep

    def fetch(self) -> str | None:
        """Return the newest commit, or None if there is no branch yet. Refuses a branch that was written by hand."""
        tip = self.fetch_ref(f"refs/heads/{MANIFESTS_BRANCH}")
        if tip:
            self._check_committers(tip)
        return tip

    def fetch_ref(self, ref: str) -> str | None:
        """Fetch a ref of the remote with its history, and return its commit, or None if the ref doesn't exist."""
        done = attempt(self.repo, "fetch", "--quiet", "--no-tags", self.remote, ref)
        if done.returncode and "couldn't find remote ref" in done.stderr:
            return None
        if done.returncode:
            raise failed(done, "fetch")
        return git(self.repo, "rev-parse", "FETCH_HEAD")

    def _check_committers(self, tip: str) -> None:
        """Refuse a commit that is neither CI's own, by committer and source, nor a merge made by GitHub."""
        for entry in git(self.repo, "log", "-z", "--format=format:%H%n%P%n%cE%n%B", tip).split("\0"):
            commit, parents, committer, text = entry.split("\n", 3)
            merge = " " in parents and committer == GITHUB_EMAIL
            if merge or (find(SOURCE, text) and committer in (COMMITTER_EMAIL, GITHUB_EMAIL)):
                continue
            raise Refused(
                f"{MANIFESTS_BRANCH} was written by hand, and only CI writes there: move it back to before "
                f"{commit[:12]} by {committer}, which has {'a' if find(SOURCE, text) else 'no'} {SOURCE}"
            )

    def release(self, revision: str | None, stage: str) -> Release | None:
        """Return what `stage` runs at a commit of the branch, or None if it has no files there."""
        if revision is None or self.folder(revision, stage) is None:
            return None
        entry = git(self.repo, "log", "-1", "--format=%H%n%B", revision, "--", f"{stage}/")
        commit, _, text = entry.partition("\n")
        source = find(SOURCE, text)
        if source is None:  # a merge that has neither of its parents' folders
            raise Refused(f"{MANIFESTS_BRANCH} was written by hand: {commit[:12]} has no {SOURCE}")
        return Release(commit, source, reverts=find(REVERTS, text) is not None)

    def folder(self, revision: str, stage: str) -> str | None:
        """Return the id of the tree with a stage's files at `revision`, or None."""
        return attempt(self.repo, "rev-parse", "--verify", "--quiet", f"{revision}:{stage}").stdout.strip() or None

    def digests(self, revision: str, stage: str) -> tuple[str, str]:
        """Return the digests of image and weights that a stage has at `revision`."""
        return self._digest(revision, stage, IMAGE_REPOSITORY), self._digest(revision, stage, WEIGHTS_REPOSITORY)

    def _digest(self, revision: str, stage: str, repository: str) -> str:
        pattern = f"/{repository}@sha256:[0-9a-f]{{64}}"
        lines = attempt(self.repo, "grep", "-hoE", pattern, revision, "--", f"{stage}/").stdout.split()
        found = {line.partition("@")[2] for line in lines}
        if len(found) != 1:
            raise Refused(f"{stage} at {revision[:12]} has {len(found)} digests of {repository}, not one")
        return found.pop()

    def release_at(self, tip: str | None, revision: str, stage: str) -> Release:
        """Return what `stage` runs at `revision`. Refuses a revision that isn't on the branch up to `tip`."""
        known = tip and attempt(self.repo, "merge-base", "--is-ancestor", revision, tip).returncode == 0
        release = self.release(revision, stage) if known else None
        if release is None:
            raise Refused(f"{revision[:12]} is no commit of {MANIFESTS_BRANCH} at which {stage} runs anything")
        return release

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Return whether `newer` is `older` or descends from it."""
        done = attempt(self.repo, "merge-base", "--is-ancestor", older, newer)
        if done.returncode > 1:
            raise failed(done, "merge-base")
        return done.returncode == 0

    def check_order(self, deployed: Release | None, stage: str, source: str) -> None:
        """Refuse a source that is neither the commit that `stage` runs nor a newer one."""
        if deployed and not self.is_ancestor(deployed.source, source):
            raise Refused(
                f"{source[:12]} doesn't descend from {deployed.source[:12]}, which {stage} runs: it is older, or main "
                "was rewritten"
            )

    def store(self, files: Mapping[str, str]) -> str:
        """Put files (name → text) into the clone's object store and return the id of their tree."""
        blobs = {name: git(self.repo, "hash-object", "-w", "--stdin", stdin=text) for name, text in files.items()}
        return git(self.repo, "mktree", stdin="".join(f"100644 blob {blob}\t{name}\n" for name, blob in blobs.items()))

    def commit(self, tip: str | None, stage: str, folder: str, message: str) -> str | None:
        """Return a commit on `tip` whose folder for the stage is the tree `folder`; None if it is already."""
        listing = git(self.repo, "ls-tree", tip).splitlines() if tip else []
        others = [line for line in listing if line.partition("\t")[2] != stage]
        root = git(self.repo, "mktree", stdin="\n".join([*others, f"040000 tree {folder}\t{stage}"]) + "\n")
        if tip and root == git(self.repo, "rev-parse", f"{tip}^{{tree}}"):
            return None
        parent = ["-p", tip] if tip else []
        return git(self.repo, "commit-tree", root, *parent, stdin=message)

    def push(self, commit: str, ref: str, *, force: bool = False) -> bool:
        """Move `ref` at the remote to `commit`; False if another writer was first. Fast-forward only, unless forced."""
        done = attempt(self.repo, "push", "--porcelain", self.remote, f"{'+' * force}{commit}:{ref}")
        if done.returncode and not any(reason in done.stdout + done.stderr for reason in LOST):
            raise failed(done, "push")
        return not done.returncode

    def update(self, change: Callable[[str | None], str | None]) -> str | None:
        """Push the commit that `change` makes from the tip; whenever another writer was first, retry from the new tip.

        Returns the commit, or None if `change` had nothing to do.
        """
        for number in range(ATTEMPTS):
            commit = change(self.fetch())
            if commit is None or self.push(commit, f"refs/heads/{MANIFESTS_BRANCH}"):
                return commit
            longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**number)
            self.pause(random.uniform(0, longest))  # noqa: S311
        raise Refused(f"another writer of {MANIFESTS_BRANCH} was first {ATTEMPTS} times in a row: try again")


def find(trailer: str, text: str) -> str | None:
    """Return the commit that a commit message's trailer names. In a squash, GitHub adds lines of its own after it."""
    found = re.search(rf"^{trailer}: ([0-9a-f]{{40}})$", text, re.MULTILINE)
    return found[1] if found else None
