from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from delivery.__main__ import main
from delivery.branch import Branch, Refused
from delivery.live import mark_passed
from delivery.rollback import Superseded, after_failure, on_request, revert
from tests.support.repositories import Origin


def fail(branch: Branch, stage: str, revision: str) -> str:
    """Take back what failed at `revision`, at once, and return the commit."""
    revert(branch, after_failure(branch, stage=stage, revision=revision), stage=stage, review=False)
    tip = branch.fetch()
    assert tip
    return tip


# A history of dev as its steps: a digit publishes the image of that name, + marks what runs as passed,
# - lets what runs fail, p changes prod. Then what fails at last, and the image that dev runs after it, or the refusal.
CASES: Sequence[tuple[str, int, str]] = [
    ("12", -1, "1"),
    ("1+2", -1, "1"),
    ("1+23", -1, "1"),  # 3 stands on 2, which nobody saw pass
    ("1+2+3", -1, "2"),
    ("123", -1, "2"),  # nothing has ever passed: the one before
    ("1+2p", -1, "1"),  # Argo CD names the newest revision, whichever stage it changed
    ("1+p2p", -2, "1"),
    ("1+2-+3", -1, "1"),
    ("1+2-3", -1, "1"),
    ("1", -1, "is the first release of dev: there is none to go back to"),
    ("p1", -1, "is the first release of dev: there is none to go back to"),
    ("1+2+", -1, "passed its smoke in dev before: the fault isn't the release's"),
    ("1+2-", -1, "fails still: the fault isn't the release's"),  # never revert a revert
    ("12-", -1, "fails still: the fault isn't the release's"),
    ("1+2-+", -1, "fails still: the fault isn't the release's"),
    ("12", 0, "dev has moved on"),  # the failure of 1 comes late
    ("1+2-", 1, "dev has moved on"),  # the failure of 2 comes twice
    ("1+2-3", 1, "dev has moved on"),
]


@pytest.mark.parametrize(("history", "failing", "expected"), CASES)
def test_what_a_failed_release_goes_back_to(
    origin: Origin, branch: Branch, history: str, failing: int, expected: str
) -> None:
    commits = list[str]()
    for step in history:
        if step == "+":
            assert mark_passed(branch, stage="dev", revision=commits[-1])
        elif step == "-":
            commits.append(fail(branch, "dev", commits[-1]))
        else:
            source = origin.main[int(step) if step.isdigit() else 0]
            stage, image = ("dev", step) if step.isdigit() else ("prod", f"{len(commits):x}")
            commits.append(origin.publish(branch, stage, image, source))
    tip = origin.tip()
    if expected.isdigit():
        fail(branch, "dev", commits[failing])
        assert origin.image("dev") == expected
        assert origin.log("manifests -1", "%(trailers:key=Source-Commit,valueonly,separator=)") == [
            origin.main[int(expected)]
        ]
    else:
        with pytest.raises(Refused, match=expected):
            fail(branch, "dev", commits[failing])
        assert origin.tip() == tip


def test_a_revert_names_every_commit_that_it_takes_back(origin: Origin, branch: Branch) -> None:
    good = origin.publish(branch, "dev", "a", origin.main[0])
    mark_passed(branch, stage="dev", revision=good)
    origin.publish(branch, "prod", "c", origin.main[0])
    middle, bad = (origin.publish(branch, "dev", letter, origin.main[n]) for n, letter in ((1, "b"), (2, "d")))
    fail(branch, "dev", bad)
    assert origin.log("manifests -1", "%B") == [
        f"dev: back to {origin.main[0][:12]}",
        "",
        f"This reverts commit {bad}.",
        f"This reverts commit {middle}.",
        "",
        f"Source-Commit: {origin.main[0]}",
        f"Reverts: {bad}",
    ]
    assert origin.image("prod") == "c"


def test_the_fix_is_published_after_a_rollback(origin: Origin, branch: Branch) -> None:
    origin.publish(branch, "dev", "a", origin.main[0])
    fail(branch, "dev", origin.publish(branch, "dev", "b", origin.main[1]))
    origin.publish(branch, "dev", "c", origin.main[2])
    assert origin.image("dev") == "c"


def test_a_release_that_lands_during_the_rollback_is_left_alone(origin: Origin, branch: Branch) -> None:
    origin.publish(branch, "dev", "a", origin.main[0])
    bad = origin.publish(branch, "dev", "b", origin.main[1])
    other, choose = origin.clone("other"), after_failure(branch, stage="dev", revision=bad)
    raced = False

    def choose_late(tip: str | None) -> object:
        nonlocal raced
        chosen = choose(tip)
        if not raced:
            raced = True
            origin.publish(other, "dev", "c", origin.main[2])
        return chosen

    with pytest.raises(Superseded):
        revert(branch, choose_late, stage="dev", review=False)  # type: ignore[arg-type]
    assert origin.image("dev") == "c"


def test_under_review_a_rollback_is_a_branch_with_the_change_in_its_text(origin: Origin, branch: Branch) -> None:
    good = origin.publish(branch, "prod", "a", origin.main[0])
    bad = origin.publish(branch, "prod", "b", origin.main[1])
    done = revert(branch, after_failure(branch, stage="prod", revision=bad), stage="prod", review=True)
    assert done.proposal
    assert done.proposal.head == f"rollback/prod-{bad[:12]}"
    assert (origin.tip(), origin.image("prod")) == (bad, "b")
    assert origin.image("prod", done.proposal.head) == "a"
    assert f"+image: localhost:5001/sluice/gateway@sha256:{'a' * 64}" in done.proposal.text
    assert origin.log(f"{good}..{done.proposal.head}") == [
        f"prod: back to {origin.main[0][:12]}",
        "prod: " + origin.main[1][:12],
    ]
    again = revert(branch, after_failure(branch, stage="prod", revision=bad), stage="prod", review=True)
    assert again.proposal == done.proposal  # a second run doesn't fail on its own branch


def test_a_person_goes_back_to_any_release_twice_in_a_row(origin: Origin, branch: Branch) -> None:
    first, second, third = (origin.publish(branch, "dev", letter, origin.main[0]) for letter in "abc")
    for revision, image in ((second, "b"), (first, "a"), (third, "c")):
        revert(branch, on_request(branch, stage="dev", to=revision), stage="dev", review=False)
        assert origin.image("dev") == image
    with pytest.raises(Superseded, match="dev has the manifests of that release already"):
        revert(branch, on_request(branch, stage="dev", to=third), stage="dev", review=False)
    with pytest.raises(Refused, match="is no commit of manifests at which dev runs anything"):
        revert(branch, on_request(branch, stage="dev", to=origin.main[0]), stage="dev", review=False)


@pytest.fixture
def command(
    branch: Branch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, dict[str, str]]]:
    monkeypatch.chdir(branch.repo)
    output = tmp_path / "output"

    def run(*arguments: str) -> tuple[int, dict[str, str]]:
        output.write_text("")
        code = main([*arguments], {"GITHUB_OUTPUT": str(output)})
        return code, dict(line.split("=", 1) for line in output.read_text().splitlines())

    return run


def test_the_command_reverts_dev_at_once_and_says_so(
    origin: Origin,
    branch: Branch,
    command: Callable[..., tuple[int, dict[str, str]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    origin.publish(branch, "dev", "a", origin.main[0])
    bad = origin.publish(branch, "dev", "b", origin.main[1])
    code, outputs = command("revert", "--stage", "dev", "--revision", bad)
    assert (code, outputs) == (0, {"bad": origin.main[1], "head": "", "title": ""})
    assert capsys.readouterr().out == f"dev was rolled back from {origin.main[1]} to {origin.main[0]}.\n"
    assert origin.image("dev") == "a"
    code, outputs = command("revert", "--stage", "dev", "--revision", bad)
    assert (code, outputs["bad"]) == (0, "")
    assert (
        capsys.readouterr().out
        == f"Nothing was rolled back: dev has moved on from {origin.main[1][:12]}: there is nothing to take back.\n"
    )
    code, outputs = command("revert", "--stage", "dev", "--revision", origin.tip())
    assert (code, outputs) == (2, {})
    assert "sluice: dev was rolled back to" in capsys.readouterr().err


def test_the_command_proposes_the_revert_of_prod(
    origin: Origin, branch: Branch, command: Callable[..., tuple[int, dict[str, str]]]
) -> None:
    first = origin.publish(branch, "prod", "a", origin.main[0])
    bad = origin.publish(branch, "prod", "b", origin.main[1])
    code, outputs = command("revert", "--stage", "prod", "--to", first)
    head = f"rollback/prod-{bad[:12]}"
    assert (code, outputs) == (
        0,
        {"bad": origin.main[1], "head": head, "title": f"prod: back to {origin.main[0][:12]}"},
    )
    assert origin.tip() == bad
    assert origin.image("prod", head) == "a"
