"""CI's signature on commits and tags: who may make it, and whose counts.

The private key is a secret of the GitHub environment `release`, which only main's workflows may use. The public ones
are in argocd/keys, named by their ids, for Argo CD (argocd/objects.py) and for `python -m delivery`.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from delivery.git import COMMITTER_EMAIL, COMMITTER_NAME

KEYS = Path(__file__).parent.parent / "argocd/keys"


class KeyProblem(Exception):
    """A key is missing or can't be used; the message is one sentence."""


@dataclass(frozen=True)
class Keyring:
    """A home folder of GnuPG that has the keys that count, and nothing else.

    signer: the id (16 hex digits) of the private key, if this process may sign.
    """

    home: Path
    signer: str = ""

    def export(self) -> dict[str, str]:
        """Return the public keys by their ids, armored."""
        ids = _ids(_gpg(self.home, "--list-keys", "--with-colons"), "pub")
        return {each: _gpg(self.home, "--armor", "--export", each) for each in ids}

    def export_private(self) -> str:
        """Return the private key, armored."""
        return _gpg(self.home, "--armor", "--export-secret-keys", self.signer)


@contextmanager
def keyring(public: Mapping[str, str], private: str = "") -> Iterator[Keyring]:
    """Give a keyring of these armored keys for a while. Raises KeyProblem."""
    if not public:
        raise KeyProblem("argocd/keys has no key, so no signature counts: run make github, and commit the key it makes")
    with TemporaryDirectory(prefix="sluice-keys-") as folder:
        home = Path(folder)
        try:
            for text in public.values():
                _gpg(home, "--import", stdin=text)
            if private:
                _gpg(home, "--import", stdin=private)
            signers = _ids(_gpg(home, "--list-secret-keys", "--with-colons"), "sec")
            if unknown := set(signers) - set(public):
                raise KeyProblem(
                    f"SIGNING_KEY is {unknown.pop()}, and argocd/keys has {', '.join(public)}: add its key"
                )
            yield Keyring(home, signers[0] if signers else "")
        finally:
            stop_agent(home)


def create(home: Path) -> Keyring:
    """Return the keyring in the folder `home`, made with a new private key if there is none. Leaves GnuPG's agent."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _ids(_gpg(home, "--list-secret-keys", "--with-colons"), "sec"):
        owner = f"{COMMITTER_NAME} <{COMMITTER_EMAIL}>"
        # Without a passphrase: what keeps it is the environment's secret. It doesn't expire, for then a rollback would
        # fail on a date; docs/operations.md says how to replace it.
        _gpg(home, "--passphrase", "", "--quick-generate-key", owner, "ed25519", "sign", "never")
    (signer,) = _ids(_gpg(home, "--list-secret-keys", "--with-colons"), "sec")
    return Keyring(home, signer)


def public_keys(folder: Path = KEYS) -> dict[str, str]:
    """Return the public keys of the repository, by their ids."""
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.asc"))}


def _ids(listing: str, kind: str) -> list[str]:
    """Return the ids of the keys of a kind, `pub` or `sec`, in a listing with colons."""
    fields = (line.split(":") for line in listing.splitlines())
    return [each[4] for each in fields if each[0] == kind]


def _gpg(home: Path, *arguments: str, stdin: str = "") -> str:
    home.chmod(0o700)
    command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback"]
    environ = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run([*command, *arguments], input=stdin, capture_output=True, text=True, env=environ)
    except FileNotFoundError:
        raise KeyProblem("gpg is missing: install GnuPG") from None
    if done.returncode:
        said = "; ".join(line.strip() for line in done.stderr.splitlines() if line.strip())
        raise KeyProblem(f"gpg {arguments[0]}: {said or f'exit code {done.returncode}'}")
    return done.stdout


def stop_agent(home: Path) -> None:
    """End the process that GnuPG leaves behind for a home folder."""
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], capture_output=True)
