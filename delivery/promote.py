"""Propose for prod what dev runs: the same digests, rendered from the same commit."""

from collections.abc import Callable, Mapping

from delivery.branch import Branch, Refused
from delivery.live import last_passed
from delivery.proposal import Proposal, propose
from delivery.publish import message


def promote(
    branch: Branch, *, before: str, to: str, source: str, render: Callable[[str, str], Mapping[str, str]]
) -> Proposal | None:
    """Propose for stage `to` the digests of stage `before`; None if `to` has exactly these manifests already.

    source: the commit of main that is checked out and renders. It is refused unless it is the one that `before` runs
    and isn't older than what `to` runs. render: (image, weights) → files of `to`.
    """
    tip = branch.fetch()
    tried = branch.release(tip, before)
    if tip is None or tried is None:
        raise Refused(f"{before} runs nothing yet: there is nothing to promote")
    if tried.source != source:
        raise Refused(f"{before} runs {tried.source[:12]}, but {source[:12]} is checked out: promote what was tried")
    branch.check_order(branch.release(tip, to), to, source)
    image, weights = branch.digests(tip, before)
    about = f"Promoted from {before}, image {image}, weights {weights}."
    commit = branch.commit(tip, to, branch.store(render(image, weights)), message(to, source, about))
    if commit is None:
        return None
    smoke = "passed" if last_passed(branch, before, tip) == tried else "has **not** passed"
    text = f"{about}\n\nThis release {smoke} its smoke in {before}. Merging this deploys it."
    head, title = f"promote/{source[:12]}", f"{to}: promote {source[:12]}"
    return propose(branch, head=head, commit=commit, title=title, text=text)
