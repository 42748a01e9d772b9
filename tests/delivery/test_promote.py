import json
from dataclasses import replace

import pytest

from delivery.approved import PATH, Approved, read
from delivery.branch import Branch, Refused
from delivery.live import mark_passed
from delivery.promote import promote
from delivery.proposal import LONGEST_DIFF, Proposal
from delivery.publish import publish
from delivery.seen import Seen
from tests.delivery.conftest import Command
from tests.support.repositories import Origin, digest, git, manifests

WEIGHTS = {"moondream": digest("0")}


def propose(branch: Branch, prod: Branch, source: str, image: str = "b") -> Proposal | None:
    """Promote an image, named by one hex digit, with prod's own manifests."""
    return promote(branch, prod, source=source, folder=prod.store(manifests(image, note="prod's own")))


def approved(origin: Origin, head: str) -> dict[str, str]:
    return dict(json.loads(git(origin.path, "show", f"{head}:delivery/prod.json")))


def test_a_promotion_is_a_change_of_what_main_says_of_prod(origin: Origin, branch: Branch, prod: Branch) -> None:
    before = origin.publish(prod, "a", origin.main[0])
    origin.publish(branch, "b", origin.main[2])
    proposal = propose(branch, prod, origin.main[2])
    assert proposal
    assert proposal.head == f"promote/{origin.main[2][:12]}"
    assert (origin.tip("stages/prod"), origin.image("prod")) == (before, "a")
    release = {"source": origin.main[2], "image": digest("b"), "weights": WEIGHTS, "reverts": ""}
    assert approved(origin, proposal.head) == release
    assert git(origin.path, "diff", "--name-only", "main", proposal.head) == "delivery/prod.json"
    assert git(origin.path, "rev-parse", f"{proposal.head}^") == origin.main[-1]
    assert f"-image: localhost:5001/sluice/gateway@{digest('a')}" in proposal.text
    assert f"+image: localhost:5001/sluice/gateway@{digest('b')}" in proposal.text
    assert "+note: prod's own" in proposal.text


def test_the_first_promotion_shows_everything_as_new(origin: Origin, branch: Branch, prod: Branch) -> None:
    origin.publish(branch, "b", origin.main[2])
    proposal = propose(branch, prod, origin.main[2])
    assert proposal
    assert f"+image: localhost:5001/sluice/gateway@{digest('b')}" in proposal.text


def test_the_text_says_whether_dev_passed_its_smoke(origin: Origin, branch: Branch, prod: Branch) -> None:
    revision = origin.publish(branch, "b", origin.main[2])
    before = propose(branch, prod, origin.main[2])
    assert mark_passed(branch, revision, Seen("Passed, by 96 answers in 31 s."))
    after = propose(branch, prod, origin.main[2])
    assert before
    assert after
    assert "has **not** passed its smoke test in dev" in before.text
    assert "This release passed its smoke test in dev.\n\nPassed, by 96 answers in 31 s." in after.text


def test_there_is_nothing_to_propose_when_prod_has_it(origin: Origin, branch: Branch, prod: Branch) -> None:
    origin.publish(branch, "b", origin.main[2])
    folder = prod.store(manifests("b", note="prod's own"))
    publish(prod, folder=folder, source=origin.main[2], main=origin.main[3])
    assert propose(branch, prod, origin.main[2]) is None


def test_a_second_run_replaces_the_first_ones_branch(origin: Origin, branch: Branch, prod: Branch) -> None:
    origin.publish(branch, "b", origin.main[2])
    propose(branch, prod, origin.main[2])
    origin.grow(1)
    proposal = propose(branch, prod, origin.main[2])
    assert proposal
    assert git(origin.path, "rev-parse", f"{proposal.head}^") == origin.main[-1]


def test_only_what_dev_runs_is_promoted(origin: Origin, branch: Branch, prod: Branch) -> None:
    with pytest.raises(Refused, match="dev runs nothing yet"):
        propose(branch, prod, origin.main[2])
    origin.publish(branch, "b", origin.main[2])
    with pytest.raises(Refused, match=f"dev runs {origin.main[2][:12]}, but {origin.main[3][:12]} was rendered"):
        propose(branch, prod, origin.main[3])
    with pytest.raises(Refused, match="was rendered with other digests than dev has"):
        propose(branch, prod, origin.main[2], image="c")


def test_prod_is_not_promoted_to_something_older(origin: Origin, branch: Branch, prod: Branch) -> None:
    origin.publish(branch, "b", origin.main[1])
    origin.publish(prod, "c", origin.main[3])
    with pytest.raises(Refused, match=f"doesn't descend from {origin.main[3][:12]}, which prod runs"):
        propose(branch, prod, origin.main[1])


def test_a_change_too_long_for_a_summary_is_cut(origin: Origin, branch: Branch, prod: Branch) -> None:
    origin.publish(branch, "b", origin.main[2])
    long = {**manifests("b"), "long.yaml": "key: value\n" * 100_000}
    proposal = promote(branch, prod, source=origin.main[2], folder=prod.store(long))
    assert proposal
    assert LONGEST_DIFF < len(proposal.text) < 2**20
    assert "characters more\n~~~~~~~~\n" in proposal.text


def test_what_main_approves_today_can_be_read() -> None:
    read(PATH)


def approve(branch: Branch, monkeypatch: pytest.MonkeyPatch, text: str, image: str = "b") -> None:
    """Have the checked-out main approve a release, and a job without rights render one."""
    path = branch.repo / "prod.json"
    path.write_text(text)
    monkeypatch.setattr("delivery.approved.PATH", path)
    (branch.repo / "rendered").mkdir(exist_ok=True)
    for name, content in manifests(image).items():
        (branch.repo / "rendered" / name).write_text(content)


def test_prod_gets_what_main_approves(
    origin: Origin, branch: Branch, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin.publish(branch, "b", origin.main[1])
    release = Approved(source=origin.main[1], image=digest("b"), weights=WEIGHTS)
    approve(branch, monkeypatch, release.text())
    code, outputs = command("plan", "--stage", "prod")
    assert (code, outputs) == (0, {"source": origin.main[1], "image": digest("b"), "weights": digest("0")})
    code, outputs = command("publish", "--stage", "prod", "--manifests", "rendered", "--main", origin.main[3])
    assert (code, origin.image("prod")) == (0, "b")
    assert origin.log("stages/prod -1", "%B")[-2:] == [
        f"Source-Commit: {origin.main[1]}",
        f"Main-Commit: {origin.main[3]}",
    ]


def test_a_rollback_that_main_approves_is_marked_as_one(
    origin: Origin, branch: Branch, prod: Branch, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in (branch, prod):
        origin.publish(each, "b", origin.main[1])
    bad = origin.publish(prod, "c", origin.main[2])
    release = Approved(source=origin.main[1], image=digest("b"), weights=WEIGHTS, reverts=bad)
    approve(branch, monkeypatch, release.text())
    assert command("publish", "--stage", "prod", "--manifests", "rendered", "--main", origin.main[3])[0] == 0
    tip = prod.fetch()
    assert tip
    assert prod.release(tip).reverts


def test_prod_gets_nothing_older_but_what_it_ran_and_goes_back_to(
    origin: Origin,
    branch: Branch,
    prod: Branch,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    origin.publish(branch, "b", origin.main[1])
    runs = origin.publish(prod, "c", origin.main[2])
    older = Approved(source=origin.main[1], image=digest("b"), weights=WEIGHTS)
    publishing = ("publish", "--stage", "prod", "--manifests", "rendered", "--main", origin.main[3])
    for reverts, reason in (
        ("", f"{older.source[:12]} doesn't descend from {origin.main[2][:12]}, which prod runs: it is older"),
        (runs, f"prod never ran {older.source[:12]} with these digests: it goes back only to what it ran"),
        (origin.main[0], f"{origin.main[0][:12]} is no commit of stages/prod"),
    ):
        approve(branch, monkeypatch, replace(older, reverts=reverts).text())
        assert command(*publishing) == (2, {}), reason
        assert f"sluice: {reason}" in capsys.readouterr().err
    assert origin.tip("stages/prod") == runs


def test_prod_gets_nothing_else(
    origin: Origin,
    branch: Branch,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    release = Approved(source=origin.main[1], image=digest("b"), weights=WEIGHTS)
    beside = git(branch.repo, "commit-tree", "-p", origin.main[2], f"{origin.main[2]}^{{tree}}", stdin="Beside")
    for source in (beside, origin.main[1]):  # not even what dev has run
        publish(branch, folder=branch.store(manifests("b")), source=source, main=origin.main[0])
        publish(branch, folder=branch.store(manifests("a")), source=source, main=origin.main[0])
    never = Approved(source=origin.main[2], image=digest("b"), weights=WEIGHTS)
    publishing = ("publish", "--stage", "prod", "--manifests", "rendered", "--main", origin.main[3])
    for text, image, reason in (
        ("{}", "b", "delivery/prod.json is empty: the workflow promote proposes a release for prod"),
        (release.text(), "c", "rendered has other digests than delivery/prod.json: render what was approved"),
        (release.text().replace(origin.main[1], beside), "b", f"{beside[:12]} isn't on main: only what was merged"),
        (never.text(), "b", f"dev never ran {origin.main[2][:12]} with these digests: prod gets what was tried"),
        (release.text().replace("sha256:", "latest:"), "b", "prod.json has image='latest:"),
        (replace(release, weights={"a": "latest"}).text(), "b", "prod.json has 'latest' for the weights of a, which"),
        (replace(release, weights={}).text(), "b", "prod.json has weights={}, and must have a digest for each model"),
        (replace(release, weights=digest("0")).text(), "b", "prod.json has weights='sha256:000"),  # type: ignore[arg-type]
        (release.text().replace('"source"', '"sauce"'), "b", "prod.json must have source, image, weights, reverts"),
        ("{", "b", "prod.json is no JSON"),
    ):
        approve(branch, monkeypatch, text, image)
        assert command(*publishing) == (2, {}), reason
        assert f"sluice: {reason}" in capsys.readouterr().err
    assert git(origin.path, "branch", "--list", "stages/prod") == ""
