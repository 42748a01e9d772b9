"""Which release a stage really runs, and which of its releases passed their smoke test."""

from collections.abc import Sequence
from dataclasses import dataclass

from config import IMAGE_REPOSITORY
from delivery.branch import Branch, Refused, Release


@dataclass(frozen=True)
class Live:
    """The release that is live. superseded: the branch has a newer one, which a smoke test might reach instead."""

    release: Release
    image: str
    superseded: bool


def check_live(branch: Branch, *, stage: str, revision: str, images: Sequence[str]) -> Live:
    """Return the release of `stage` at the commit `revision`. Refuses unless its image is among those that run.

    images: those of the stage's containers, as Argo CD lists them. They may include the previous release's, whose pods
    still drain, but not the weights, which are no container's image.
    """
    tip = branch.fetch()
    release = branch.release_at(tip, revision, stage)
    image, _ = branch.digests(revision, stage)
    if not any(name.endswith(f"/{IMAGE_REPOSITORY}@{image}") for name in images):
        raise Refused(f"{stage} should run {image} at {revision[:12]}, but runs {', '.join(images) or 'nothing'}")
    return Live(release, image, superseded=release != branch.release(tip, stage))


def mark_passed(branch: Branch, *, stage: str, revision: str) -> bool:
    """Record at the remote that the release of `stage` at `revision` passed its smoke test.

    Returns False if the stage has a newer release by now: then it isn't known which one answered.
    """
    tip = branch.fetch()
    if branch.release_at(tip, revision, stage) != branch.release(tip, stage):
        return False
    return branch.push(revision, passed_ref(stage))


def last_passed(branch: Branch, stage: str, tip: str) -> Release | None:
    """Return the stage's newest release up to `tip` that passed its smoke test, or None if none has."""
    commit = branch.fetch_ref(passed_ref(stage))
    return branch.release(commit, stage) if commit and branch.is_ancestor(commit, tip) else None


def passed_ref(stage: str) -> str:
    """Return the ref of the newest commit at which the stage passed. It is no branch, so no workflow reacts to it."""
    return f"refs/sluice/passed/{stage}"
