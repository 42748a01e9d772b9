"""A change of a stage that needs a person's approval: a branch of its own, for a pull request."""

from dataclasses import dataclass

from delivery.branch import Branch
from delivery.git import git

# GitHub is the committer of a merge and a squash; a rebase is committed by whoever merges, like a commit by hand.
ADVICE = "Merge this by a merge commit or a squash, not by a rebase: the branch takes CI's and GitHub's commits only."
LONGEST_DIFF = 50_000  # characters; GitHub takes 65,536 for the whole text


@dataclass(frozen=True)
class Proposal:
    """A pushed branch, with the title and text of its pull request."""

    head: str
    title: str
    text: str


def propose(branch: Branch, *, head: str, commit: str, title: str, text: str) -> Proposal:
    """Push `commit` as the branch `head`, and return the pull request with the rendered change below `text`.

    An existing branch of this name is from an earlier run, and is replaced.
    """
    branch.push(commit, f"refs/heads/{head}", force=True)
    diff = git(branch.repo, "diff", "--no-ext-diff", "--no-color", f"{commit}^", commit)
    if len(diff) > LONGEST_DIFF:
        diff = f"{diff[:LONGEST_DIFF]}\n… and {len(diff) - LONGEST_DIFF} characters more"
    # Longer than any fence that a manifest may contain.
    return Proposal(head, title, f"{text} {ADVICE}\n\n~~~~~~~~diff\n{diff}\n~~~~~~~~\n")
