"""Which release a stage really runs, and which of its releases passed their smoke test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from config import IMAGE_REPOSITORY
from delivery.branch import Branch, Refused, Release
from delivery.digests import read_releases
from delivery.git import attempt, git
from delivery.seen import Seen

NOTHING = Seen()


@dataclass(frozen=True)
class Live:
    """The release that is live. superseded: the branch has a newer one, which a smoke test might reach instead."""

    release: Release
    image: str
    releases: Mapping[str, str]  # see read_releases()
    superseded: bool


def check_live(branch: Branch, *, revision: str, images: Sequence[str]) -> Live:
    """Return the release at the commit `revision`. Refuses unless its image is among those that run.

    images: those of the stage's containers, as Argo CD lists them. They may include the previous release's, whose pods
    still drain, but not the weights, which are no container's image.
    """
    tip = branch.fetch()
    release = branch.release_at(tip, revision)
    image = branch.digests(revision).image
    if not any(name.endswith(f"/{IMAGE_REPOSITORY}@{image}") for name in images):
        raise Refused(
            f"{branch.stage} should run {image} at {revision[:12]}, but runs {', '.join(images) or 'nothing'}"
        )
    return Live(release, image, read_releases(branch.repo, revision), superseded=revision != tip)


def mark_passed(branch: Branch, revision: str, seen: Seen = NOTHING) -> bool:
    """Record at the remote, in a signed tag, that the release at `revision` passed its smoke test, and what that saw.

    Returns False if the stage has a newer release by now: then it isn't known which one answered.
    """
    if branch.release_at(tip := branch.fetch(), revision).commit != tip:
        return False
    name = passed_tag(branch.stage, revision)
    if _message(branch, revision) is None:
        options = ["--force", "--local-user", branch.signer(), "--cleanup=whitespace", "--file=-"]
        message = seen.message(branch.stage)
        git(branch.repo, "tag", *options, name, revision, stdin=message, GNUPGHOME=str(branch.keys.home))
        branch.push(git(branch.repo, "rev-parse", f"refs/tags/{name}"), f"refs/tags/{name}")
    return True


def last_passed(branch: Branch, revision: str) -> Release | None:
    """Return the newest release up to `revision` that passed its smoke test, or None if none has."""
    found = _last(branch, revision)
    return branch.release(found[0]) if found else None


def last_seen(branch: Branch, revision: str) -> Seen:
    """Return what the smoke test saw of that release; nothing if none has passed."""
    found = _last(branch, revision)
    return Seen.of(found[1]) if found else NOTHING


def _last(branch: Branch, revision: str) -> tuple[str, str] | None:
    """Return the commit of the newest release that passed, and its tag's message."""
    listing = git(branch.repo, "ls-remote", "--refs", branch.remote, f"refs/tags/{passed_tag(branch.stage, '*')}")
    tagged = {line.rpartition("/")[2] for line in listing.splitlines()}
    for commit in git(branch.repo, "rev-list", revision).split():
        if commit in tagged and (message := _message(branch, commit)) is not None:
            return commit, message
    return None


def passed_tag(stage: str, commit: str) -> str:
    """Return the name of the tag of a release that passed."""
    return f"passed/{stage}/{commit}"


def _message(branch: Branch, commit: str) -> str | None:
    """Return the message of a release's tag; one that CI hasn't signed, or for another commit, doesn't count."""
    name = passed_tag(branch.stage, commit)
    tag = branch.fetch_ref(f"refs/tags/{name}")
    if tag is None or attempt(branch.repo, "verify-tag", tag, GNUPGHOME=str(branch.keys.home)).returncode:
        return None
    head, _, signed = git(branch.repo, "cat-file", "tag", tag).partition("\n\n")
    message = signed.rpartition("-----BEGIN PGP SIGNATURE-----")[0]
    return message if head.splitlines()[:3] == [f"object {commit}", "type commit", f"tag {name}"] else None
