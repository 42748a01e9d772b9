"""A stage's branch: its rendered manifests in one folder, written only by CI, signed, and only by fast-forward.

A commit is made without a work tree, so nothing can conflict, and the clone's own files don't change. The folder has
the stage's name, so that a commit of another stage's branch can't pass for one of this. CI adds `release.yaml` to it: a
number that grows with each commit, by which the cluster refuses older ones (argocd/order.yaml).
"""

import random
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from config import manifests_branch
from delivery.digests import Digests, NoDigests, read_digests
from delivery.git import attempt, failed, git
from delivery.signing import Keyring

# Trailers: the rendered commit of main; the commit of main whose workflow released it; the reverted commit.
SOURCE, MAIN, REVERTS = "Source-Commit", "Main-Commit", "Reverts"
ORDER_FILE = "release.yaml"
ORDER = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: release
data:
  number: "{number}"
"""
ATTEMPTS = 30  # a writer loses the race at most once to each of the others
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds
# How git and GitHub say that another writer was first.
LOST = ("fetch first", "non-fast-forward", "cannot lock ref", "failed to update ref", "incorrect old value")
# What git's %G? says of signatures that don't count.
DOUBTS = {"N": "no signature", "E": "a signature by another key", "B": "a bad signature", "R": "one by a revoked key"}


class Refused(Exception):
    """The operation isn't allowed; the message is one sentence that says why, and what is allowed."""


@dataclass(frozen=True)
class Release:
    """What the stage runs from a commit of its branch on.

    source: the commit of main it was rendered from. main: the commit of main whose workflow wrote it, which is the
    order of releases. reverts: whether it takes another release back.
    """

    commit: str
    source: str
    main: str
    reverts: bool


@dataclass(frozen=True)
class Branch:
    """A stage's branch at `remote`, seen through a clone that also has main's history.

    Methods raise GitError and Refused.
    """

    repo: Path
    stage: str
    keys: Keyring
    remote: str = "origin"
    pause: Callable[[float], object] = time.sleep

    @property
    def name(self) -> str:
        """Return the branch's name."""
        return manifests_branch(self.stage)

    def fetch(self) -> str | None:
        """Return the newest commit, or None if there is no branch yet. Refuses one that CI hasn't signed for the stage.

        The commits before it need no look: CI adds only to what it has checked.
        """
        tip = self.fetch_ref(f"refs/heads/{self.name}")
        if tip is None:
            return None
        problem = self._doubt(tip)
        if problem is None and self._tree(tip) is None:
            problem = f"no folder {self.stage}"
        if problem:
            raise Refused(
                f"{self.name} was not written by CI: {tip[:12]} has {problem}; move the branch back to the last commit "
                "that CI has signed for it"
            )
        return tip

    def _doubt(self, commit: str) -> str | None:
        """Return what a commit has instead of CI's signature, None if it has that."""
        home = str(self.keys.home)
        if not attempt(self.repo, "verify-commit", commit, GNUPGHOME=home).returncode:
            return None
        verdict = git(self.repo, "log", "-1", "--format=%G?", commit, GNUPGHOME=home)
        return DOUBTS.get(verdict, "a signature that doesn't count")

    def fetch_ref(self, ref: str) -> str | None:
        """Fetch a ref of the remote with its history and return its object, or None if the ref doesn't exist."""
        done = attempt(self.repo, "fetch", "--quiet", "--no-tags", self.remote, ref)
        if done.returncode and "couldn't find remote ref" in done.stderr:
            return None
        if done.returncode:
            raise failed(done, "fetch")
        return git(self.repo, "rev-parse", "FETCH_HEAD")

    def release(self, revision: str) -> Release:
        """Return what the stage runs at a commit of the branch."""
        text = git(self.repo, "log", "-1", "--format=%B", revision)
        source, main = find(SOURCE, text), find(MAIN, text)
        if source is None or main is None or self._tree(revision) is None:
            raise Refused(f"{revision[:12]} is no release of {self.stage}: it needs {SOURCE}, {MAIN} and its folder")
        return Release(revision, source, main, reverts=find(REVERTS, text) is not None)

    def release_at(self, tip: str | None, revision: str) -> Release:
        """Return what the stage runs at `revision`. Refuses a revision that isn't on the branch up to `tip`."""
        if tip is None or attempt(self.repo, "merge-base", "--is-ancestor", revision, tip).returncode:
            raise Refused(f"{revision[:12]} is no commit of {self.name}")
        return self.release(revision)

    def manifests(self, revision: str) -> str:
        """Return the id of the tree with the manifests that the stage has at a commit."""
        listing = git(self.repo, "ls-tree", f"{revision}:{self.stage}").splitlines()
        return self._make_tree(line for line in listing if not line.endswith(f"\t{ORDER_FILE}"))

    def digests(self, tree: str) -> Digests:
        """Return the digests in the manifests of a tree or commit."""
        try:
            return read_digests(self.repo, tree)
        except NoDigests as error:
            raise Refused(f"{self.stage} at {tree[:12]} has {error}") from None

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Return whether `newer` is `older` or descends from it."""
        done = attempt(self.repo, "merge-base", "--is-ancestor", older, newer)
        if done.returncode > 1:
            raise failed(done, "merge-base")
        return done.returncode == 0

    def check_on_main(self, commit: str) -> None:
        """Refuse a commit that isn't on the remote's main."""
        main = self.fetch_ref("refs/heads/main")
        if main is None or not self.is_ancestor(commit, main):
            raise Refused(f"{commit[:12]} isn't on main: only what was merged is released")

    def store(self, files: Mapping[str, str]) -> str:
        """Put files (name → text) into the clone's object store and return the id of their tree."""
        blobs = {name: self._store(text) for name, text in files.items()}
        return self._make_tree(f"100644 blob {blob}\t{name}" for name, blob in blobs.items())

    def commit(self, tip: str | None, folder: str, message: str) -> str | None:
        """Return a signed commit on `tip` with the manifests of the tree `folder`; None if the stage has them."""
        if tip and folder == self.manifests(tip):
            return None
        number = 1 + int(git(self.repo, "rev-list", "--count", tip)) if tip else 1
        order = f"100644 blob {self._store(ORDER.format(number=number))}\t{ORDER_FILE}"
        whole = self._make_tree([*git(self.repo, "ls-tree", folder).splitlines(), order])
        root = self._make_tree([f"040000 tree {whole}\t{self.stage}"])
        options = [f"--gpg-sign={self.signer()}", *(["-p", tip] if tip else [])]
        return git(self.repo, "commit-tree", root, *options, stdin=message, GNUPGHOME=str(self.keys.home))

    def signer(self) -> str:
        """Return the id of CI's private key. Refuses to go on without one."""
        if not self.keys.signer:
            raise Refused("SIGNING_KEY is missing: only a job in the environment `release` writes releases")
        return self.keys.signer

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
            if commit is None or self.push(commit, f"refs/heads/{self.name}"):
                return commit
            longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**number)
            self.pause(random.uniform(0, longest))  # noqa: S311
        raise Refused(f"another writer of {self.name} was first {ATTEMPTS} times in a row: try again")

    def _tree(self, revision: str) -> str | None:
        return attempt(self.repo, "rev-parse", "--verify", "--quiet", f"{revision}:{self.stage}").stdout.strip() or None

    def _store(self, text: str) -> str:
        return git(self.repo, "hash-object", "-w", "--stdin", stdin=text)

    def _make_tree(self, lines: Iterable[str]) -> str:
        return git(self.repo, "mktree", stdin="".join(f"{line}\n" for line in lines))


def find(trailer: str, text: str) -> str | None:
    """Return the commit that a commit message's trailer names."""
    found = re.search(rf"^{trailer}: ([0-9a-f]{{40}})$", text, re.MULTILINE)
    return found[1] if found else None
