import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from delivery.__main__ import main
from delivery.branch import ATTEMPTS, Branch, Refused
from delivery.git import COMMITTER_EMAIL, COMMITTER_NAME, GitError
from delivery.publish import message, publish
from testbed import ROOT
from tests.delivery.conftest import Command
from tests.support.repositories import Origin, ci_keys, digest, git, manifests, new_origin, other_keys

CI = (COMMITTER_NAME, COMMITTER_EMAIL)


def test_the_first_release_makes_the_branch_with_one_folder(origin: Origin, branch: Branch) -> None:
    source = origin.main[0]
    origin.publish(branch, "a", source)
    assert git(origin.path, "ls-tree", "-r", "--name-only", "stages/dev").split() == [
        "dev/configmap-sluice.yaml",
        "dev/deployment-sluice.yaml",
        "dev/release.yaml",
    ]
    assert origin.log(form="%s|%cn|%(trailers:key=Source-Commit,valueonly,separator=)") == [
        f"dev: {source[:12]}|{COMMITTER_NAME}|{source}"
    ]


def test_a_release_replaces_all_files_and_no_other_stage(origin: Origin, branch: Branch, prod: Branch) -> None:
    origin.publish(prod, "a", origin.main[0])
    old = {**manifests("a"), "old.yaml": "gone: soon\n"}
    publish(branch, folder=branch.store(old), source=origin.main[0], main=origin.main[0])
    origin.publish(branch, "b", origin.main[1])
    assert (origin.image("prod"), origin.image("dev")) == ("a", "b")
    assert "old.yaml" not in git(origin.path, "ls-tree", "-r", "--name-only", "stages/dev")


def test_each_commit_has_a_larger_number_than_the_one_before(origin: Origin, branch: Branch) -> None:
    commits = [origin.publish(branch, image, origin.main[0]) for image in "aba"]
    orders = [yaml.safe_load(git(origin.path, "show", f"{commit}:dev/release.yaml")) for commit in commits]
    assert [each["data"] for each in orders] == [{"number": "1"}, {"number": "2"}, {"number": "3"}]
    assert {(each["kind"], each["metadata"]["name"]) for each in orders} == {("ConfigMap", "release")}
    assert branch.manifests(commits[0]) == branch.manifests(commits[2]) == branch.store(manifests("a"))


def test_the_clone_is_left_as_it_was(origin: Origin, branch: Branch) -> None:
    before = git(branch.repo, "rev-parse", "HEAD")
    origin.publish(branch, "a", origin.main[0])
    assert git(branch.repo, "rev-parse", "HEAD") == before
    assert git(branch.repo, "status", "--porcelain") == ""
    assert git(branch.repo, "symbolic-ref", "HEAD") == "refs/heads/main"


def test_nothing_is_committed_when_nothing_changed(origin: Origin, branch: Branch) -> None:
    tip = origin.publish(branch, "a", origin.main[0])
    assert publish(branch, folder=branch.store(manifests("a")), source=origin.main[1], main=origin.main[1]) is None
    assert origin.tip() == tip


def test_an_older_commit_of_main_is_refused(origin: Origin, branch: Branch, prod: Branch) -> None:
    tip = origin.publish(branch, "b", origin.main[3])
    with pytest.raises(Refused, match=f"{origin.main[1][:12]} doesn't descend from {origin.main[3][:12]}"):
        origin.publish(branch, "a", origin.main[1])
    assert origin.tip() == tip
    origin.publish(prod, "a", origin.main[1])  # another stage's order is its own


def test_the_same_source_may_be_built_again(origin: Origin, branch: Branch) -> None:
    origin.publish(branch, "a", origin.main[3])
    origin.publish(branch, "b", origin.main[3])
    assert origin.image() == "b"


def test_a_source_beside_main_is_refused(origin: Origin, branch: Branch) -> None:
    origin.publish(branch, "a", origin.main[3])
    beside = git(branch.repo, "commit-tree", "-p", origin.main[2], f"{origin.main[2]}^{{tree}}", stdin="Beside")
    with pytest.raises(Refused, match="main was rewritten"):
        origin.publish(branch, "b", beside)


def test_a_clone_without_the_history_says_so(origin: Origin, branch: Branch) -> None:
    origin.publish(branch, "a", origin.main[3])
    with pytest.raises(GitError, match=r"merge-base: fatal: Not a valid commit name f{40}"):
        origin.publish(branch, "b", "f" * 40)


@pytest.mark.parametrize(
    ("forger", "reason"), [(None, "no signature"), (other_keys, "a signature by another key")], ids=["nobody", "other"]
)
def test_a_commit_that_ci_has_not_signed_is_refused_whatever_it_says(
    origin: Origin, branch: Branch, forger: object, reason: str
) -> None:
    good = origin.publish(branch, "a", origin.main[0])
    text = message("dev", "Just like CI's", source=origin.main[1], main=origin.main[1])
    forged = origin.commit_by_hand(text, by=CI, keys=forger() if callable(forger) else None)
    with pytest.raises(Refused, match=f"stages/dev was not written by CI: {forged[:12]} has {reason}; move the branch"):
        origin.publish(branch, "b", origin.main[1])
    git(origin.path, "update-ref", "refs/heads/stages/dev", good)
    origin.publish(branch, "b", origin.main[1])  # after the advice was followed
    assert origin.image() == "b"


# As gpgsm says it of a certificate that anybody may have made.
GPGSM = """#!/bin/sh
cat >/dev/null
case "$*" in
*--verify*) printf '[GNUPG:] GOODSIG 0 /CN=Somebody\\n[GNUPG:] TRUST_UNDEFINED\\n' ;;
*) printf '%s\\n' '-----BEGIN SIGNED MESSAGE-----' x '-----END SIGNED MESSAGE-----'
  printf '\\n[GNUPG:] SIG_CREATED \\n' >&2 ;;
esac
"""


def test_a_commit_that_is_signed_by_a_certificate_is_refused(
    origin: Origin, branch: Branch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = origin.publish(branch, "a", origin.main[0])
    (gpgsm := tmp_path / "gpgsm").write_text(GPGSM)
    gpgsm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    text = message("dev", "Just like CI's", source=origin.main[1], main=origin.main[1])
    signing = ["-c", "gpg.format=x509", "commit-tree", "--gpg-sign=x", "-p", good, f"{good}^{{tree}}"]
    forged = git(origin.path, *signing, stdin=text, by=CI)
    assert git(origin.path, "log", "-1", "--format=%G?", forged) == "U"  # which git says of CI's own key as well
    git(origin.path, "update-ref", "refs/heads/stages/dev", forged)
    with pytest.raises(Refused, match=f"stages/dev was not written by CI: {forged[:12]} has no signature"):
        branch.fetch()


def test_a_commit_whose_text_was_changed_after_ci_signed_it_is_refused(origin: Origin, branch: Branch) -> None:
    tip = origin.publish(branch, "a", origin.main[0])
    changed = git(origin.path, "cat-file", "commit", tip).replace(origin.main[0], origin.main[1])
    forged = git(origin.path, "hash-object", "-t", "commit", "-w", "--stdin", stdin=changed)
    git(origin.path, "update-ref", "refs/heads/stages/dev", forged)
    with pytest.raises(Refused, match=f"{forged[:12]} has a bad signature"):
        branch.fetch()


def test_a_commit_that_ci_signed_for_another_stage_is_refused(origin: Origin, branch: Branch, prod: Branch) -> None:
    git(origin.path, "update-ref", "refs/heads/stages/prod", origin.publish(branch, "a", origin.main[0]))
    with pytest.raises(Refused, match=r"stages/prod was not written by CI: .* has no folder prod"):
        prod.fetch()


@pytest.fixture
def rendered(branch: Branch, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with what was rendered of image a, and of the weights that main has."""
    monkeypatch.setattr("delivery.manifests.weights_of", lambda stage: {"moondream": digest("0")})
    folder = branch.repo / "rendered"
    folder.mkdir()
    for name, text in manifests("a").items():
        (folder / name).write_text(text)
    return folder


def publishing(rendered: Path, main: str, image: str = "a") -> list[str]:
    """Return the command that has dev run it."""
    return ["publish", "--stage", "dev", "--manifests", str(rendered), "--image", digest(image), "--main", main]


def test_nothing_is_written_without_the_private_key(origin: Origin, rendered: Path, command: Command) -> None:
    arguments = publishing(rendered, origin.main[1])
    assert command(*arguments, key="") == (2, {})
    assert git(origin.path, "branch", "--list", "stages/*") == ""
    code, outputs = command(*arguments)
    assert (code, outputs["commit"]) == (0, origin.tip())


def test_a_private_key_that_argo_cd_does_not_know_is_refused(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("source", "--stage", "dev", key=other_keys().export_private()) == (2, {})
    said = capsys.readouterr().err
    assert f"sluice: SIGNING_KEY is {other_keys().signer}, and argocd/keys has {ci_keys().signer}" in said


def test_what_is_not_on_main_is_not_released(
    origin: Origin, branch: Branch, rendered: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = git(branch.repo, "commit-tree", "-p", origin.main[2], f"{origin.main[2]}^{{tree}}", stdin="Beside")
    assert command(*publishing(rendered, beside)) == (2, {})
    assert f"sluice: {beside[:12]} isn't on main: only what was merged is released" in capsys.readouterr().err


def test_what_was_rendered_of_other_images_is_not_released(
    origin: Origin,
    rendered: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    refusal = f"sluice: {rendered} has other digests than what was built: render that"
    assert command(*publishing(rendered, origin.main[1], image="b")) == (2, {})
    assert refusal in capsys.readouterr().err
    monkeypatch.setattr("delivery.manifests.weights_of", lambda stage: {"moondream": digest("1")})
    assert command(*publishing(rendered, origin.main[1])) == (2, {})
    assert refusal in capsys.readouterr().err
    without = publishing(rendered, origin.main[1])
    assert command(*without[:5], *without[7:]) == (2, {})
    assert "sluice: --image and --main are missing: stage dev releases what a commit of main" in capsys.readouterr().err
    assert git(origin.path, "branch", "--list", "stages/*") == ""


def test_a_writer_that_was_overtaken_starts_again_from_the_new_tip(origin: Origin) -> None:
    branch, other, pauses = origin.clone(), origin.clone("other"), list[float]()
    slow = Branch(branch.repo, "dev", branch.keys, pause=pauses.append)
    overtaken = 0

    def change(tip: str | None) -> str | None:
        nonlocal overtaken
        if overtaken < 3:
            origin.publish(other, "abc"[overtaken], origin.main[overtaken])
            overtaken += 1
        text = message("dev", "", source=origin.main[4], main=origin.main[4])
        return slow.commit(tip, slow.store(manifests("d")), text)

    assert slow.update(change) == origin.tip()
    assert origin.image() == "d"
    assert len(origin.log()) == 4
    assert len(pauses) == 3
    assert all(0 <= pause <= longest for pause, longest in zip(pauses, [0.1, 0.2, 0.4], strict=True))


def test_a_writer_that_is_always_overtaken_gives_up(origin: Origin) -> None:
    pauses = list[float]()
    branch = origin.clone(pause=pauses.append)
    tip = origin.publish(branch, "a", origin.main[0])
    late = branch.commit(None, branch.store(manifests("b")), "never a child of the tip")
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
        origin.publish(branch, "a", origin.main[0])


def test_a_remote_that_is_not_there_is_one_line(origin: Origin) -> None:
    branch = Branch(origin.clone().repo, "dev", ci_keys(), remote="/nowhere")
    with pytest.raises(GitError, match=r"^git fetch: fatal: '/nowhere' does not appear to be a git repository; fatal:"):
        branch.fetch()


@pytest.mark.usefixtures("programs")
def test_of_twenty_writers_the_newest_wins_and_nothing_is_lost(tmp_path: Path) -> None:
    origin = new_origin(tmp_path, commits=20)
    writers = list(range(20))
    random.Random(5).shuffle(writers)
    clones = {writer: origin.clone(f"clone-{writer}") for writer in writers}

    def write(number: int) -> str | Refused:
        branch, source = clones[number], origin.main[number]
        try:
            commit = publish(branch, folder=branch.store(manifests("a", note=str(number))), source=source, main=source)
        except Refused as refused:
            return refused
        assert commit
        return commit

    with ThreadPoolExecutor(20) as pool:
        done = dict(zip(writers, pool.map(write, writers), strict=True))

    pushed = {commit: writer for writer, commit in done.items() if isinstance(commit, str)}
    history = origin.log(form="%H")
    assert sorted(history) == sorted(pushed)
    assert origin.log("stages/dev --merges") == []
    numbers = [pushed[commit] for commit in history]
    assert numbers[0] == 19
    assert numbers == sorted(numbers, reverse=True)
    assert "note: 19\n" in git(origin.path, "show", "stages/dev:dev/deployment-sluice.yaml")
    assert all("doesn't descend from" in str(done[w]) for w in writers if w not in pushed.values())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("plan --stage staging", "--stage: stage 'staging' doesn't exist: local, dev, prod do"),
        ("plan --stage dev --image sluice:latest", "--image: 'sluice:latest' is not a digest: sha256: and"),
        ("plan --stage dev --image sha256:12", "--image: 'sha256:12' is not a digest"),
        (f"plan --stage dev --image {digest('a')} --main main", "--main: 'main' is not a commit: 40"),
        ("publish --stage dev --manifests x", "the following arguments are required: --main"),
        ("live --stage dev --images sluice", "--images: 'sluice' is not a JSON list of texts"),
        ('live --stage dev --images {"a":1}', "is not a JSON list of texts"),
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


def test_a_repository_without_keys_says_how_to_make_one(
    branch: Branch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("delivery.__main__.public_keys", dict)
    assert main(["source", "--stage", "dev"], {}) == 2
    assert "sluice: argocd/keys has no key, so no signature counts: run make github" in capsys.readouterr().err


@pytest.mark.usefixtures("programs")
def test_a_rollback_needs_nothing_but_python_and_git() -> None:
    command = [sys.executable, "-S", "-m", "delivery", "revert", "--help"]
    assert subprocess.run(command, cwd=ROOT, env={}, capture_output=True).returncode == 0
