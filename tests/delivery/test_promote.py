from collections.abc import Mapping

import pytest

from delivery.branch import Branch, Refused
from delivery.live import mark_passed
from delivery.promote import promote
from delivery.proposal import LONGEST_DIFF, Proposal
from tests.support.repositories import Origin, digest, manifests


def render(image: str, weights: str) -> Mapping[str, str]:
    """Render prod from digests made of one hex digit."""
    return manifests(image[-1], weights[-1], note="prod's own")


def run(branch: Branch, source: str) -> Proposal | None:
    return promote(branch, before="dev", to="prod", source=source, render=render)


def test_prod_is_proposed_the_digests_of_dev_with_the_change_in_the_text(origin: Origin, branch: Branch) -> None:
    origin.publish(branch, "prod", "a", origin.main[0])
    tip = origin.publish(branch, "dev", "b", origin.main[2])
    proposal = run(branch, origin.main[2])
    assert proposal
    assert (proposal.head, proposal.title) == (f"promote/{origin.main[2][:12]}", f"prod: promote {origin.main[2][:12]}")
    assert (origin.tip(), origin.image("prod")) == (tip, "a")
    assert (origin.image("prod", proposal.head), origin.image("dev", proposal.head)) == ("b", "b")
    assert f"-image: localhost:5001/sluice/gateway@{digest('a')}" in proposal.text
    assert f"+image: localhost:5001/sluice/gateway@{digest('b')}" in proposal.text
    assert "+note: prod's own" in proposal.text
    assert origin.log(f"{tip}..{proposal.head}", "%(trailers:key=Source-Commit,valueonly,separator=)") == [
        origin.main[2]
    ]


def test_the_first_promotion_makes_the_folder(origin: Origin, branch: Branch) -> None:
    origin.publish(branch, "dev", "b", origin.main[2])
    proposal = run(branch, origin.main[2])
    assert proposal
    assert origin.image("prod", proposal.head) == "b"


def test_the_text_says_whether_dev_passed_its_smoke(origin: Origin, branch: Branch) -> None:
    revision = origin.publish(branch, "dev", "b", origin.main[2])
    before = run(branch, origin.main[2])
    assert mark_passed(branch, stage="dev", revision=revision)
    after = run(branch, origin.main[2])
    assert before
    assert after
    assert "has **not** passed its smoke in dev" in before.text
    assert "This release passed its smoke in dev" in after.text


def test_there_is_nothing_to_propose_when_prod_has_it(origin: Origin, branch: Branch) -> None:
    origin.publish(branch, "dev", "b", origin.main[2])
    proposal = run(branch, origin.main[2])
    assert proposal
    branch.push(origin.tip(proposal.head), "refs/heads/manifests")
    assert run(branch, origin.main[2]) is None


def test_a_second_run_replaces_the_first_ones_branch(origin: Origin, branch: Branch) -> None:
    origin.publish(branch, "dev", "b", origin.main[2])
    run(branch, origin.main[2])
    tip = origin.publish(branch, "local", "c", origin.main[2])
    proposal = run(branch, origin.main[2])
    assert proposal
    assert origin.log(f"{proposal.head} -2", "%H") == [origin.tip(proposal.head), tip]


def test_only_what_dev_runs_is_promoted(origin: Origin, branch: Branch) -> None:
    with pytest.raises(Refused, match="dev runs nothing yet"):
        run(branch, origin.main[2])
    origin.publish(branch, "dev", "b", origin.main[2])
    with pytest.raises(Refused, match=f"dev runs {origin.main[2][:12]}, but {origin.main[3][:12]} is checked out"):
        run(branch, origin.main[3])


def test_prod_is_not_promoted_to_something_older(origin: Origin, branch: Branch) -> None:
    origin.publish(branch, "dev", "b", origin.main[1])
    origin.publish(branch, "prod", "c", origin.main[3])
    with pytest.raises(Refused, match=f"doesn't descend from {origin.main[3][:12]}, which prod runs"):
        run(branch, origin.main[1])


def test_a_change_too_long_for_github_is_cut(origin: Origin, branch: Branch) -> None:
    origin.publish(branch, "dev", "b", origin.main[2])
    proposal = promote(
        branch,
        before="dev",
        to="prod",
        source=origin.main[2],
        render=lambda image, weights: {"long.yaml": "key: value\n" * 10_000},
    )
    assert proposal
    assert LONGEST_DIFF < len(proposal.text) < 60_000
    assert "characters more\n~~~~~~~~\n" in proposal.text
