"""Roll a bad release back: a revert on the stage's branch, to the last release that is known to be good."""

from collections.abc import Callable
from dataclasses import dataclass

from delivery.approved import Approved
from delivery.branch import Branch, Refused, Release
from delivery.git import git
from delivery.live import last_passed
from delivery.proposal import Proposal, propose
from delivery.publish import message

Choice = Callable[[str | None], tuple[Release, Release]]  # from the branch's tip to the bad release and the good one


class Superseded(Refused):
    """There is nothing to roll back: the stage no longer runs that release."""


@dataclass(frozen=True)
class Rollback:
    """A revert. source: the commit of main that is deployed again, or would be by merging the proposal, if any."""

    bad: Release
    source: str
    proposal: Proposal | None


def after_failure(branch: Branch, *, revision: str) -> Choice:
    """Choose for a release that failed, which the stage ran at the commit `revision`.

    The good one is the last that passed its smoke test: those in between have the same fault or were never tested. If
    none has passed, it is the previous one. A revert is never reverted: when the good release fails too, the release
    isn't the cause, and further reverts would walk back through the whole history.
    """

    def choose(tip: str | None) -> tuple[Release, Release]:
        bad, stage = branch.release_at(tip, revision), branch.stage
        if bad.commit != tip:
            raise Superseded(f"{stage} has moved on from {bad.source[:12]}: there is nothing to take back")
        if bad.reverts:
            raise Refused(
                f"{stage} was rolled back to {bad.source[:12]} and fails still: the fault isn't the release's"
            )
        good = last_passed(branch, bad.commit)
        if good == bad:
            raise Refused(f"{bad.source[:12]} passed its smoke in {stage} before: the fault isn't the release's")
        if good is None:
            before = git(branch.repo, "rev-list", "--max-count=2", bad.commit).split()[1:]
            if not before:
                raise Refused(f"{bad.source[:12]} is the first release of {stage}: there is none to go back to")
            good = branch.release(before[0])
        return bad, good

    return choose


def on_request(branch: Branch, *, to: str) -> Choice:
    """Choose what the stage ran at the commit `to`, which a person has named."""

    def choose(tip: str | None) -> tuple[Release, Release]:
        return branch.release_at(tip, str(tip)), branch.release_at(tip, to)

    return choose


def revert(branch: Branch, choose: Choice) -> Rollback:
    """Revert the stage to the chosen release at once."""
    chosen: list[tuple[Release, Release]] = []

    def change(tip: str | None) -> str | None:
        bad, good = choose(tip)
        chosen.append((bad, good))
        taken_back = git(branch.repo, "rev-list", f"{good.commit}..{bad.commit}").split()
        about = "\n".join(f"This reverts commit {commit}." for commit in taken_back)
        text = message(branch.stage, about, source=good.source, main=bad.main, reverts=bad.commit)
        return branch.commit(tip, branch.manifests(good.commit), text)

    commit = branch.update(change)
    bad, good = chosen[-1]
    if commit is None:
        raise Superseded(f"{branch.stage} has the manifests of that release already")
    return Rollback(bad, good.source, None)


def propose_revert(branch: Branch, choose: Choice) -> Rollback:
    """Propose to revert a stage that changes by a pull request only."""
    tip = branch.fetch()
    bad, good = choose(tip)
    folder = branch.manifests(good.commit)
    if folder == branch.manifests(bad.commit):
        raise Superseded(f"{branch.stage} has the manifests of that release already")
    approved = Approved.of(branch.digests(good.commit), source=good.source, reverts=bad.commit)
    head, title = f"rollback/{branch.stage}-{bad.commit[:12]}", f"Take {branch.stage} back to {good.source[:12]}"
    text = f"Rolls {bad.source} back. {branch.stage} runs it until this is merged."
    return Rollback(bad, good.source, propose(branch, approved, head=head, title=title, text=text, folder=folder))
