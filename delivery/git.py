"""The git command, with its exit code checked and its failures as one line."""

import os
import subprocess
from pathlib import Path

COMMITTER_NAME, COMMITTER_EMAIL = "Sluice delivery", "delivery@sluice.invalid"  # nobody's account
_IDENTITY = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", COMMITTER_NAME), ("EMAIL", COMMITTER_EMAIL))
}
# Whatever the machine's own configuration says. A signature says itself which program checks it, and only GnuPG has our
# keyring: gpgsm finds a certificate good that anybody has made.
_SIGNATURES = ("gpg.format=openpgp", "gpg.program=gpg", "gpg.x509.program=false", "gpg.ssh.program=false")


class GitError(Exception):
    """A git command failed; the message is one line with git's own reason."""


def attempt(repo: Path, *arguments: str, stdin: str | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run git in `repo` as CI's committer, in English, and return the finished process.

    environ: further variables, such as GNUPGHOME where signatures are made or checked.
    """
    fixed = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    command = ["git", "-C", str(repo), *(word for each in _SIGNATURES for word in ("-c", each)), *arguments]
    environ = {**os.environ, **_IDENTITY, **fixed, **environ}
    return subprocess.run(command, input=stdin, capture_output=True, text=True, env=environ)


def git(repo: Path, *arguments: str, stdin: str | None = None, **environ: str) -> str:
    """Run git in `repo` and return its output without the last newline; raises GitError."""
    done = attempt(repo, *arguments, stdin=stdin, **environ)
    if done.returncode:
        raise failed(done, arguments[0])
    return done.stdout.removesuffix("\n")


def failed(done: subprocess.CompletedProcess[str], name: str) -> GitError:
    """Return the error for a git command that failed: the messages of git and the remote without hints, as one line."""
    said = (line.strip() for line in done.stderr.splitlines())
    reasons = [line for line in said if line not in ("", "remote:") and not line.startswith("hint:")]
    return GitError(f"git {name}: {'; '.join(reasons) or f'exit code {done.returncode}'}")
