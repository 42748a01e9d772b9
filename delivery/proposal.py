"""A change of what prod runs: a branch that changes `delivery/prod.json` on main, for a person's pull request.

CI doesn't open it. Whatever lets workflows open pull requests lets them approve some too
(https://best.openssf.org/SCM-BestPractices/github/actions/actions_can_approve_pull_requests.html), also those that
somebody pushed to a branch of their own.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from delivery.approved import PATH, Approved
from delivery.branch import Branch, Refused
from delivery.git import git

FILE = f"delivery/{PATH.name}"
LONGEST_DIFF = 500_000  # characters; a job's summary takes a mebibyte
ENDING = "Open a pull request from this branch; merging it deploys."


@dataclass(frozen=True)
class Proposal:
    """A pushed branch, and a text about it with the change of the rendered manifests."""

    head: str
    text: str


def propose(branch: Branch, approved: Approved, *, head: str, title: str, text: str, folder: str) -> Proposal:
    """Push a commit to main's tip that approves a release, as the branch `head`.

    folder: the tree of the manifests that the stage will have. An existing branch of this name is from an earlier run,
    and is replaced.
    """
    tip, main = branch.fetch(), branch.fetch_ref("refs/heads/main")
    if main is None:
        raise Refused(f"{branch.remote} has no branch main: there is nothing to propose to")
    commit = _commit(branch.repo, main, approved.text(), f"{title}\n\n{text}\n")
    branch.push(commit, f"refs/heads/{head}", force=True)
    before = branch.manifests(tip) if tip else branch.store({})
    diff = git(branch.repo, "diff", "--no-ext-diff", "--no-color", before, folder)
    if len(diff) > LONGEST_DIFF:
        diff = f"{diff[:LONGEST_DIFF]}\n… and {len(diff) - LONGEST_DIFF} characters more"
    # Longer than any fence that a manifest may contain.
    return Proposal(head, f"{text} {ENDING}\n\n~~~~~~~~diff\n{diff}\n~~~~~~~~\n")


def _commit(repo: Path, main: str, content: str, message: str) -> str:
    """Return a commit on `main` in which the file has this content."""
    blob = git(repo, "hash-object", "-w", "--stdin", stdin=content)
    with TemporaryDirectory() as folder:
        index = str(Path(folder) / "index")
        git(repo, "read-tree", main, GIT_INDEX_FILE=index)
        git(repo, "update-index", "--add", "--cacheinfo", f"100644,{blob},{FILE}", GIT_INDEX_FILE=index)
        tree = git(repo, "write-tree", GIT_INDEX_FILE=index)
    return git(repo, "commit-tree", tree, "-p", main, stdin=message)
