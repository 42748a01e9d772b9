import json
from collections.abc import Sequence

import pytest

from delivery.branch import Branch, Refused
from delivery.live import mark_passed
from delivery.rollback import Superseded, after_failure, on_request, propose_revert, revert
from tests.delivery.conftest import Command
from tests.support.repositories import Origin, digest, git


def fail(branch: Branch, revision: str) -> str:
    """Take back what failed at `revision`, at once, and return the commit."""
    revert(branch, after_failure(branch, revision=revision))
    tip = branch.fetch()
    assert tip
    return tip


# A history of dev as its steps: a digit publishes the image of that name, + marks what runs as passed,
# - lets what runs fail. Then what fails at last, and the image that dev runs after it, or the refusal.
CASES: Sequence[tuple[str, int, str]] = [
    ("12", -1, "1"),
    ("1+2", -1, "1"),
    ("1+23", -1, "1"),  # 3 stands on 2, which nobody saw pass
    ("1+2+3", -1, "2"),
    ("123", -1, "2"),  # nothing has ever passed: the one before
    ("1+2-+3", -1, "1"),
    ("1+2-3", -1, "1"),
    ("1", -1, "is the first release of dev: there is none to go back to"),
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
            assert mark_passed(branch, commits[-1])
        elif step == "-":
            commits.append(fail(branch, commits[-1]))
        else:
            commits.append(origin.publish(branch, step, origin.main[int(step)]))
    tip = origin.tip()
    if expected.isdigit():
        fail(branch, commits[failing])
        assert origin.image() == expected
        source = "%(trailers:key=Source-Commit,valueonly,separator=)"
        assert origin.log("stages/dev -1", source) == [origin.main[int(expected)]]
    else:
        with pytest.raises(Refused, match=expected):
            fail(branch, commits[failing])
        assert origin.tip() == tip


def test_a_revert_names_every_commit_that_it_takes_back(origin: Origin, branch: Branch) -> None:
    good = origin.publish(branch, "a", origin.main[0])
    mark_passed(branch, good)
    middle, bad = (origin.publish(branch, letter, origin.main[n]) for n, letter in ((1, "b"), (2, "d")))
    fail(branch, bad)
    assert origin.log("stages/dev -1", "%B") == [
        f"dev: back to {origin.main[0][:12]}",
        "",
        f"This reverts commit {bad}.",
        f"This reverts commit {middle}.",
        "",
        f"Source-Commit: {origin.main[0]}",
        f"Main-Commit: {origin.main[2]}",
        f"Reverts: {bad}",
    ]


def test_the_fix_is_published_after_a_rollback_and_nothing_older(origin: Origin, branch: Branch) -> None:
    origin.publish(branch, "a", origin.main[0])
    fail(branch, origin.publish(branch, "b", origin.main[2]))
    with pytest.raises(Refused, match="doesn't descend"):
        origin.publish(branch, "c", origin.main[1])
    origin.publish(branch, "d", origin.main[3])
    assert origin.image() == "d"


def test_a_release_that_lands_during_the_rollback_is_left_alone(origin: Origin, branch: Branch) -> None:
    origin.publish(branch, "a", origin.main[0])
    bad = origin.publish(branch, "b", origin.main[1])
    other, choose = origin.clone("other"), after_failure(branch, revision=bad)
    raced = False

    def choose_late(tip: str | None) -> object:
        nonlocal raced
        chosen = choose(tip)
        if not raced:
            raced = True
            origin.publish(other, "c", origin.main[2])
        return chosen

    with pytest.raises(Superseded):
        revert(branch, choose_late)  # type: ignore[arg-type]
    assert origin.image() == "c"


def test_under_review_a_rollback_is_a_change_of_what_main_says(origin: Origin, prod: Branch) -> None:
    origin.publish(prod, "a", origin.main[0])
    bad = origin.publish(prod, "b", origin.main[1])
    done = propose_revert(prod, after_failure(prod, revision=bad))
    assert done.proposal
    assert done.proposal.head == f"rollback/prod-{bad[:12]}"
    assert (origin.tip("stages/prod"), origin.image("prod")) == (bad, "b")
    assert json.loads(git(origin.path, "show", f"{done.proposal.head}:delivery/prod.json")) == {
        "source": origin.main[0],
        "image": digest("a"),
        "weights": {"moondream": digest("0")},
        "reverts": bad,
    }
    assert f"+image: localhost:5001/sluice/gateway@sha256:{'a' * 64}" in done.proposal.text
    assert origin.log(f"main..{done.proposal.head}") == [f"Take prod back to {origin.main[0][:12]}"]
    again = propose_revert(prod, after_failure(prod, revision=bad))
    assert again.proposal == done.proposal  # a second run doesn't fail on its own branch


def test_a_person_goes_back_to_any_release_twice_in_a_row(origin: Origin, branch: Branch) -> None:
    first, second, third = (origin.publish(branch, letter, origin.main[0]) for letter in "abc")
    for revision, image in ((second, "b"), (first, "a"), (third, "c")):
        revert(branch, on_request(branch, to=revision))
        assert origin.image() == image
    with pytest.raises(Superseded, match="dev has the manifests of that release already"):
        revert(branch, on_request(branch, to=third))
    with pytest.raises(Refused, match="is no commit of stages/dev"):
        revert(branch, on_request(branch, to=origin.main[0]))


def test_the_command_reverts_dev_at_once_and_says_so(
    origin: Origin, branch: Branch, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    origin.publish(branch, "a", origin.main[0])
    bad = origin.publish(branch, "b", origin.main[1])
    code, outputs = command("revert", "--stage", "dev", "--revision", bad)
    assert (code, outputs) == (0, {"bad": origin.main[1], "head": ""})
    assert capsys.readouterr().out == f"dev was rolled back from {origin.main[1]} to {origin.main[0]}.\n"
    assert origin.image() == "a"
    code, outputs = command("revert", "--stage", "dev", "--revision", bad)
    assert (code, outputs["bad"]) == (0, "")
    assert (
        capsys.readouterr().out
        == f"Nothing was rolled back: dev has moved on from {origin.main[1][:12]}: there is nothing to take back.\n"
    )
    code, outputs = command("revert", "--stage", "dev", "--revision", origin.tip())
    assert (code, outputs) == (2, {})
    assert "sluice: dev was rolled back to" in capsys.readouterr().err


def test_the_command_proposes_the_revert_of_prod(origin: Origin, prod: Branch, command: Command) -> None:
    first = origin.publish(prod, "a", origin.main[0])
    bad = origin.publish(prod, "b", origin.main[1])
    code, outputs = command("revert", "--stage", "prod", "--to", first, key="")  # a proposal needs no signature
    assert (code, outputs) == (0, {"bad": origin.main[1], "head": f"rollback/prod-{bad[:12]}"})
    assert origin.tip("stages/prod") == bad
