"""Roll a bad release back: a revert on the branch, to the last release that is known to be good."""

from collections.abc import Callable
from dataclasses import dataclass

from delivery.branch import REVERTS, SOURCE, Branch, Refused, Release
from delivery.git import git
from delivery.live import last_passed
from delivery.proposal import Proposal, propose

Choice = Callable[[str | None], tuple[Release, Release]]  # from the branch's tip to the bad release and the good one


class Superseded(Refused):
    """There is nothing to roll back: the stage no longer runs that release."""


@dataclass(frozen=True)
class Rollback:
    """A revert. source: the commit of main that is deployed again, or would be by merging the proposal, if any."""

    bad: Release
    source: str
    proposal: Proposal | None


def after_failure(branch: Branch, *, stage: str, revision: str) -> Choice:
    """Choose for a release that failed, which `stage` ran at the commit `revision`.

    The good one is the last that passed its smoke test: those in between have the same fault or were never tested. If
    none has passed, it is the previous one. A revert is never reverted: when the good release fails too, the release
    isn't the cause, and further reverts would walk back through the whole history.
    """

    def choose(tip: str | None) -> tuple[Release, Release]:
        bad = branch.release_at(tip, revision, stage)
        if tip is None or bad != branch.release(tip, stage):
            raise Superseded(f"{stage} has moved on from {bad.source[:12]}: there is nothing to take back")
        if bad.reverts:
            raise Refused(
                f"{stage} was rolled back to {bad.source[:12]} and fails still: the fault isn't the release's"
            )
        passed = last_passed(branch, stage, tip)
        if passed == bad:
            raise Refused(f"{bad.source[:12]} passed its smoke in {stage} before: the fault isn't the release's")
        good = passed or branch.release(f"{bad.commit}^", stage)
        if good is None:
            raise Refused(f"{bad.source[:12]} is the first release of {stage}: there is none to go back to")
        return bad, good

    return choose


def on_request(branch: Branch, *, stage: str, to: str) -> Choice:
    """Choose what `stage` ran at the commit `to`, which a person has named."""

    def choose(tip: str | None) -> tuple[Release, Release]:
        return branch.release_at(tip, str(tip), stage), branch.release_at(tip, to, stage)

    return choose


def revert(branch: Branch, choose: Choice, *, stage: str, review: bool) -> Rollback:
    """Revert `stage` to the chosen release: with `review` by a pull request, otherwise at once."""

    def change(tip: str | None) -> str | None:
        bad, good = choose(tip)
        folder = git(branch.repo, "rev-parse", f"{good.commit}:{stage}")
        return branch.commit(tip, stage, folder, _message(branch, stage, bad, good))

    commit = change(branch.fetch()) if review else branch.update(change)
    if commit is None:
        raise Superseded(f"{stage} has the manifests of that release already")
    bad, now = branch.release_at(commit, f"{commit}^", stage), branch.release_at(commit, commit, stage)
    proposal = None
    if review:
        head, title = f"rollback/{stage}-{bad.commit[:12]}", f"{stage}: back to {now.source[:12]}"
        text = f"Rolls {bad.source} back. {stage} runs it until this is merged."
        proposal = propose(branch, head=head, commit=commit, title=title, text=text)
    return Rollback(bad, now.source, proposal)


def _message(branch: Branch, stage: str, bad: Release, good: Release) -> str:
    taken_back = git(branch.repo, "log", "--format=%H", f"{good.commit}..{bad.commit}", "--", f"{stage}/").split()
    lines = "\n".join(f"This reverts commit {commit}." for commit in taken_back)
    return f"{stage}: back to {good.source[:12]}\n\n{lines}\n\n{SOURCE}: {good.source}\n{REVERTS}: {bad.commit}\n"
