"""Propose for prod what dev runs: the same digests, rendered from the same commit."""

from delivery.approved import Approved
from delivery.branch import SOURCE, Branch, Refused, Release
from delivery.digests import Digests
from delivery.git import git
from delivery.live import last_passed, last_seen
from delivery.proposal import Proposal, propose


def has_run(dev: Branch, tip: str | None, source: str, digests: Digests) -> bool:
    """Return whether dev has run these digests, rendered from `source`, at a commit up to `tip`, and maybe more models.

    CI has verified the images' attestations when it gave them to dev.
    """
    if tip is None:
        return False
    commits = git(dev.repo, "log", "--format=%H", f"--grep=^{SOURCE}: {source}$", tip).split()
    return any(dev.digests(commit).cover(digests) for commit in commits)


def check_approved(dev: Branch, prod: Branch, wanted: Approved) -> None:
    """Refuse for prod what dev hasn't run, and what is older than what prod runs unless prod ran that and goes back.

    Main has approved it, but who reads a pull request can't tell what a commit and digests are.
    """
    source, tip = wanted.source, prod.fetch()
    if not has_run(dev, dev.fetch(), source, wanted.digests):
        raise Refused(f"dev never ran {source[:12]} with these digests: prod gets what was tried before")
    if wanted.reverts:
        prod.release_at(tip, wanted.reverts)
        if not has_run(prod, tip, source, wanted.digests):
            raise Refused(f"prod never ran {source[:12]} with these digests: it goes back only to what it ran")
    elif tip:
        _check_newer(prod, prod.release(tip), source)


def _check_newer(prod: Branch, deployed: Release, source: str) -> None:
    if not prod.is_ancestor(deployed.source, source):
        raise Refused(f"{source[:12]} doesn't descend from {deployed.source[:12]}, which prod runs: it is older")


def promote(dev: Branch, prod: Branch, *, source: str, folder: str) -> Proposal | None:
    """Propose for prod what dev runs; None if prod has exactly these manifests already.

    source: the commit of main that has rendered the tree `folder` for prod. It is refused unless it is the one that dev
    runs, with the same digests, and isn't older than what prod runs. Prod may have fewer models than dev.
    """
    tip = dev.fetch()
    if tip is None:
        raise Refused("dev runs nothing yet: there is nothing to promote")
    tried, digests = dev.release(tip), prod.digests(folder)
    if tried.source != source:
        raise Refused(f"dev runs {tried.source[:12]}, but {source[:12]} was rendered: promote what was tried")
    if not dev.digests(tip).cover(digests):
        raise Refused(f"{source[:12]} was rendered with other digests than dev has at {tip[:12]}")
    if now := prod.fetch():
        if prod.manifests(now) == folder:
            return None
        _check_newer(prod, prod.release(now), source)
    passed = last_passed(dev, tip) == tried
    smoke = "passed" if passed else "has **not** passed"
    images = f"image {digests.image}, weights {digests.weights_text}"
    text = f"Promoted from dev: {images}.\n\nThis release {smoke} its smoke test in dev."
    if passed and (seen := last_seen(dev, tip).judgement):
        text += f"\n\n{seen}"
    approved = Approved.of(digests, source=source)
    head, title = f"promote/{source[:12]}", f"Release {source[:12]} to prod"
    return propose(prod, approved, head=head, title=title, text=text, folder=folder)
