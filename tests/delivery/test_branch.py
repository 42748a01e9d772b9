import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from config import MANIFESTS_BRANCH
from delivery.__main__ import main
from delivery.branch import ATTEMPTS, GITHUB_EMAIL, Branch, Refused
from delivery.git import COMMITTER_EMAIL, COMMITTER_NAME, GitError
from delivery.publish import publish
from testbed import ROOT
from tests.support.repositories import Origin, digest, git, manifests, new_origin

GITHUB = ("GitHub", GITHUB_EMAIL)
CI = (COMMITTER_NAME, COMMITTER_EMAIL)


def test_the_first_release_makes_the_branch_with_one_folder(origin: Origin, branch: Branch) -> None:
    source = origin.main[0]
    origin.publish(branch, "dev", "a", source)
    assert git(origin.path, "ls-tree", "-r", "--name-only", MANIFESTS_BRANCH).split() == [
        "dev/deployment.yaml",
        "dev/weights.yaml",
    ]
    assert origin.log(form="%s|%cn|%(trailers:key=Source-Commit,valueonly,separator=)") == [
        f"dev: {source[:12]}|{COMMITTER_NAME}|{source}"
    ]


def test_a_release_replaces_its_own_folder_and_no_other(origin: Origin, branch: Branch) -> None:
    origin.publish(branch, "prod", "a", origin.main[0])
    publish(branch, stage="dev", files={"old.yaml": "gone: soon\n"}, source=origin.main[0], about="")
    origin.publish(branch, "dev", "b", origin.main[1])
    assert (origin.image("prod"), origin.image("dev")) == ("a", "b")
    assert "old.yaml" not in git(origin.path, "ls-tree", "-r", "--name-only", MANIFESTS_BRANCH)


def test_the_clone_is_left_as_it_was(origin: Origin, branch: Branch) -> None:
    before = git(branch.repo, "rev-parse", "HEAD")
    origin.publish(branch, "dev", "a", origin.main[0])
    assert git(branch.repo, "rev-parse", "HEAD") == before
    assert git(branch.repo, "status", "--porcelain") == ""
    assert git(branch.repo, "symbolic-ref", "HEAD") == "refs/heads/main"


def test_nothing_is_committed_when_nothing_changed(origin: Origin, branch: Branch) -> None:
    tip = origin.publish(branch, "dev", "a", origin.main[0])
    assert publish(branch, stage="dev", files=manifests("a"), source=origin.main[1], about="") is None
    assert origin.tip() == tip


def test_an_older_source_is_refused(origin: Origin, branch: Branch) -> None:
    tip = origin.publish(branch, "dev", "b", origin.main[3])
    with pytest.raises(Refused, match=f"{origin.main[1][:12]} doesn't descend from {origin.main[3][:12]}, which dev"):
        origin.publish(branch, "dev", "a", origin.main[1])
    assert origin.tip() == tip
    origin.publish(branch, "local", "a", origin.main[1])  # another stage's order is its own


def test_the_same_source_may_be_built_again(origin: Origin, branch: Branch) -> None:
    origin.publish(branch, "dev", "a", origin.main[3])
    origin.publish(branch, "dev", "b", origin.main[3])
    assert origin.image("dev") == "b"


def test_a_source_beside_main_is_refused(origin: Origin, branch: Branch) -> None:
    origin.publish(branch, "dev", "a", origin.main[3])
    beside = git(branch.repo, "commit-tree", "-p", origin.main[2], f"{origin.main[2]}^{{tree}}", stdin="Beside")
    with pytest.raises(Refused, match="main was rewritten"):
        origin.publish(branch, "dev", "b", beside)


def test_a_clone_without_the_history_says_so(origin: Origin, branch: Branch) -> None:
    origin.publish(branch, "dev", "a", origin.main[3])
    with pytest.raises(GitError, match=r"merge-base: fatal: Not a valid commit name f{40}"):
        origin.publish(branch, "dev", "b", "f" * 40)


@pytest.mark.parametrize(
    ("message", "by"),
    [
        ("Fix it by hand", CI),
        (f"Fix it by hand\n\nSource-Commit: {'a' * 40}\n", ("Ada", "ada@example.com")),
        ("Edited in the browser", GITHUB),
    ],
)
def test_a_branch_that_was_written_by_hand_is_refused(
    origin: Origin, branch: Branch, message: str, by: tuple[str, str]
) -> None:
    origin.publish(branch, "prod", "a", origin.main[0])
    good = origin.publish(branch, "dev", "a", origin.main[0])
    commit = origin.commit_by_hand(message, by=by, tree=f"{good}^")
    with pytest.raises(Refused, match=f"written by hand, .* move it back to before {commit[:12]} by {by[1]}"):
        origin.publish(branch, "dev", "b", origin.main[1])
    git(origin.path, "update-ref", f"refs/heads/{MANIFESTS_BRANCH}", good)
    origin.publish(branch, "dev", "b", origin.main[1])  # after the advice was followed
    assert origin.image("dev") == "b"


def test_what_ci_wrote_since_does_not_hide_a_commit_by_hand(origin: Origin, branch: Branch) -> None:
    origin.publish(branch, "dev", "a", origin.main[0])
    origin.commit_by_hand("Fix it by hand")
    origin.commit_by_hand(f"dev\n\nSource-Commit: {origin.main[1]}", by=CI)
    with pytest.raises(Refused, match=r"by ada@example\.com"):
        branch.fetch()


def test_a_pull_request_that_github_merged_is_as_good_as_a_push(origin: Origin, branch: Branch) -> None:
    base = origin.publish(branch, "dev", "a", origin.main[0])
    proposed = branch.commit(base, "prod", branch.store(manifests("b")), f"prod\n\nSource-Commit: {origin.main[0]}")
    assert proposed
    branch.push(proposed, "refs/heads/promote/x")
    moved = origin.publish(branch, "dev", "c", origin.main[1])
    both = branch.commit(moved, "prod", branch.store(manifests("b")), "as GitHub merges it")
    assert both
    branch.push(both, "refs/heads/merge")
    merge = origin.commit_by_hand("Merge pull request #1 from promote/x", moved, proposed, by=GITHUB, tree=both)
    assert branch.fetch() == merge
    prod, dev = branch.release(merge, "prod"), branch.release(merge, "dev")
    assert prod and (prod.commit, prod.source) == (proposed, origin.main[0])
    assert dev and (dev.commit, dev.source) == (moved, origin.main[1])
    origin.publish(branch, "dev", "d", origin.main[2])
    assert (origin.image("prod"), origin.image("dev")) == ("b", "d")


def test_a_pull_request_that_github_squashed_is_as_good_as_a_push(origin: Origin, branch: Branch) -> None:
    base = origin.publish(branch, "dev", "a", origin.main[0])
    tree = branch.commit(base, "prod", branch.store(manifests("b")), "prod")
    assert tree
    branch.push(tree, "refs/heads/promote/x")
    text = f"prod (#1)\n\nSource-Commit: {origin.main[0]}\n\n---------\n\nCo-authored-by: Ada <ada@example.com>\n"
    squash = origin.commit_by_hand(text, base, by=GITHUB, tree=tree)
    prod = branch.release(branch.fetch(), "prod")
    assert prod
    assert (prod.commit, prod.source) == (squash, origin.main[0])


def test_a_merge_with_an_edit_in_it_is_refused(origin: Origin, branch: Branch) -> None:
    base = origin.publish(branch, "dev", "a", origin.main[0])
    proposed = branch.commit(base, "dev", branch.store(manifests("b")), f"dev\n\nSource-Commit: {origin.main[0]}")
    edited = branch.commit(base, "dev", branch.store(manifests("c")), "edited while merging")
    assert proposed
    assert edited
    branch.push(proposed, "refs/heads/proposed")
    branch.push(edited, "refs/heads/edited")
    origin.commit_by_hand("Merge pull request #1", base, proposed, by=GITHUB, tree=edited)
    with pytest.raises(Refused, match="written by hand"):
        origin.publish(branch, "dev", "d", origin.main[1])


def test_a_writer_that_was_overtaken_starts_again_from_the_new_tip(origin: Origin) -> None:
    branch, other, pauses = origin.clone(), origin.clone("other"), list[float]()
    slow = Branch(branch.repo, pause=pauses.append)
    overtaken = 0

    def change(tip: str | None) -> str | None:
        nonlocal overtaken
        if overtaken < 3:
            origin.publish(other, "local", "abc"[overtaken], origin.main[overtaken])
            overtaken += 1
        return slow.commit(tip, "dev", slow.store(manifests("d")), f"dev\n\nSource-Commit: {origin.main[0]}")

    assert slow.update(change) == origin.tip()
    assert (origin.image("local"), origin.image("dev")) == ("c", "d")
    assert len(pauses) == 3
    assert all(0 <= pause <= longest for pause, longest in zip(pauses, [0.1, 0.2, 0.4], strict=True))


def test_a_writer_that_is_always_overtaken_gives_up(origin: Origin) -> None:
    pauses = list[float]()
    branch = origin.clone(pause=pauses.append)
    tip = origin.publish(branch, "dev", "a", origin.main[0])
    late = branch.commit(None, "dev", branch.store(manifests("b")), "never a child of the tip")
    with pytest.raises(Refused, match=f"first {ATTEMPTS} times in a row"):
        branch.update(lambda _tip: late)
    assert len(pauses) == ATTEMPTS
    assert max(pauses) <= 5
    assert origin.tip() == tip


def test_a_push_that_the_remote_forbids_is_not_tried_again(origin: Origin, branch: Branch) -> None:
    hook = origin.path / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho 'GH013: Repository rule violations' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(GitError, match=r"^git push: remote: GH013: Repository rule violations; error: failed to push"):
        origin.publish(branch, "dev", "a", origin.main[0])


def test_a_remote_that_is_not_there_is_one_line(origin: Origin) -> None:
    branch = Branch(origin.clone().repo, remote="/nowhere")
    with pytest.raises(GitError, match=r"^git fetch: fatal: '/nowhere' does not appear to be a git repository; fatal:"):
        branch.fetch()


def test_of_twenty_writers_the_newest_wins_and_nothing_is_lost(tmp_path: Path) -> None:
    origin = new_origin(tmp_path, commits=20)
    writers = [(stage, n) for n in range(20) for stage in [("dev", "local")[n % 2]]]
    random.Random(5).shuffle(writers)
    clones = {writer: origin.clone(f"clone-{writer[1]}") for writer in writers}

    def write(writer: tuple[str, int]) -> str | Refused:
        stage, number = writer
        files = manifests("a", note=str(number))
        try:
            commit = publish(clones[writer], stage=stage, files=files, source=origin.main[number], about="")
        except Refused as refused:
            return refused
        assert commit
        return commit

    with ThreadPoolExecutor(20) as pool:
        done = dict(zip(writers, pool.map(write, writers), strict=True))

    pushed = {commit: writer for writer, commit in done.items() if isinstance(commit, str)}
    history = origin.log(form="%H")
    assert sorted(history) == sorted(pushed)
    assert origin.log("manifests --merges") == []
    for stage, newest in (("dev", 18), ("local", 19)):
        numbers = [number for commit in history for s, number in [pushed[commit]] if s == stage]
        assert numbers[0] == newest
        assert numbers == sorted(numbers, reverse=True)
        assert f"note: {newest}\n" in git(origin.path, "show", f"manifests:{stage}/deployment.yaml")
        assert all("which " + stage in str(done[w]) for w in writers if w[0] == stage and w not in pushed.values())


Command = Callable[..., int]


@pytest.fixture
def command(branch: Branch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    monkeypatch.chdir(branch.repo)
    output = tmp_path / "output"
    return lambda *arguments: main([*arguments], {"GITHUB_OUTPUT": str(output)})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("publish --stage staging", "--stage: stage 'staging' doesn't exist: local, dev, prod do"),
        ("publish --stage dev --image sluice:latest", "--image: 'sluice:latest' is not a digest: sha256: and"),
        ("publish --stage dev --image sha256:12", "--image: 'sha256:12' is not a digest"),
        (f"publish --stage dev --image {digest('a')} --source main", "--source: 'main' is not a commit: 40"),
        (f"publish --stage dev --image {digest('a')}", "the following arguments are required: --source"),
        ("live --stage dev --images sluice", "--images: 'sluice' is not a JSON list of images"),
        ('live --stage dev --images {"a":1}', "is not a JSON list of images"),
        ("revert --stage dev", "one of the arguments --revision --to is required"),
    ],
)
def test_bad_input_is_one_sentence(arguments: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments.split(), {})
    said = capsys.readouterr().err
    assert said.startswith("sluice: ")
    assert sentence in said
    assert said.count("\n") == 1


def test_prod_is_never_published_to(command: Command, origin: Origin, capsys: pytest.CaptureFixture[str]) -> None:
    source = origin.main[-1]
    assert command("publish", "--stage", "prod", "--image", digest("a"), "--source", source) == 2
    assert "sluice: stage prod isn't published to: promote gives it what was tried before" in capsys.readouterr().err


def test_a_rollback_needs_nothing_but_python_and_git() -> None:
    command = [sys.executable, "-S", "-m", "delivery", "revert", "--help"]
    assert subprocess.run(command, cwd=ROOT, env={}, capture_output=True).returncode == 0
