"""What the tests have on the local cluster and around it: Argo CD, a Git repository, and a receiver of webhooks."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from config import manifests_branch
from delivery.git import git
from delivery.signing import Keyring
from local_cluster.kubectl import SCRIPTS, ClusterError, environ, kubectl, script
from testbed.tools import missing
from tests.support.stub import Answer, Request, Stub


@cache
def need_cluster() -> None:
    """Skip the test where there is no cluster; fail it where CI=true."""
    try:
        kubectl("get", "--raw", "/readyz")
    except (ClusterError, FileNotFoundError) as error:
        missing(f"there is no cluster, {SCRIPTS}/up starts one: {error}")


@contextmanager
def argo_cd() -> Iterator[str]:
    """Give the admin password of an Argo CD that is this process's alone: its settings are for the whole cluster."""
    need_cluster()
    with Path(environ()["state"], "argocd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield script("argocd")


class Repository:
    """A stage's branch that this machine and the cluster read at `url`; every test run starts it afresh."""

    def __init__(self, name: str, stage: str, clone: Path) -> None:
        self.url = script("git-server", name)
        self._clone, self._branch = clone, manifests_branch(stage)
        self._git("init", "--quiet", "--initial-branch", self._branch)
        self._git("remote", "add", "origin", self.url)

    def commit(self, files: dict[str, str | None], keys: Keyring | None) -> str:
        """Push a commit with these files, by path (None removes one), signed if there are keys; return its revision."""
        for path, text in files.items():
            file = self._clone / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True) if text is None else file.write_text(text)
        self._git("add", "--all")
        tree = self._git("write-tree")
        options = ["-p", "HEAD"] if self._git("for-each-ref", f"refs/heads/{self._branch}") else []
        options += [f"--gpg-sign={keys.signer}"] if keys else []
        revision = git(
            self._clone, "commit-tree", tree, *options, "-m", "test", GNUPGHOME=str(keys.home if keys else "")
        )
        self._git("update-ref", f"refs/heads/{self._branch}", revision)
        self.move(revision)
        return revision

    def move(self, revision: str) -> None:
        """Move the branch to a commit, which may be an older one; the next commit's parent is the newest still."""
        self._git("push", "--quiet", "--force", "origin", f"{revision}:refs/heads/{self._branch}")

    def tip(self) -> str:
        """Return the newest commit."""
        return self._git("rev-parse", self._branch)

    def paths(self) -> list[str]:
        """Return the files of the newest commit."""
        return self._git("ls-tree", "-r", "--name-only", self._branch).splitlines()

    def restore(self, revision: str) -> None:
        """Have the files as they were at a commit, for the next one."""
        self._git("read-tree", "--reset", "-u", revision)

    def _git(self, *arguments: str) -> str:
        return git(self._clone, *arguments)


class Receiver:
    """Takes every POST, from here and from pods, and keeps it: `posts` has paths, headers and JSON bodies."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, dict[str, str], Any]] = []
        self.status = 204
        self._server = Stub(self._take, host="0.0.0.0").start()
        self.url = f"http://{environ()['node_ip']}:{self._server.server_port}"

    def _take(self, request: Request) -> Answer:
        self.posts.append((request.path, request.headers, json.loads(request.body)))
        return self.status, {}, b""

    def stop(self) -> None:
        """Take no more."""
        self._server.stop()
