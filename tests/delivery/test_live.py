import pytest

from config import IMAGE_REPOSITORY
from delivery.branch import Branch, Refused
from delivery.live import check_live, last_passed, mark_passed, passed_ref
from tests.support.repositories import REGISTRY, Origin, digest

HAPROXY = "docker.io/library/haproxy:3.0"


def gateway(letter: str) -> str:
    return f"{REGISTRY}/{IMAGE_REPOSITORY}@{digest(letter)}"


def test_the_digest_of_the_revision_is_found_among_what_runs(origin: Origin, branch: Branch) -> None:
    revision = origin.publish(branch, "dev", "b", origin.main[1])
    live = check_live(branch, stage="dev", revision=revision, images=[HAPROXY, gateway("a"), gateway("b")])
    assert (live.image, live.release.source, live.superseded) == (digest("b"), origin.main[1], False)


@pytest.mark.parametrize(
    "images",
    [
        [],
        [HAPROXY],
        [gateway("a")],
        [f"{REGISTRY}/{IMAGE_REPOSITORY}:latest"],
        [f"{REGISTRY}/other/gateway@{digest('b')}"],
        [f"{REGISTRY}/my{IMAGE_REPOSITORY}@{digest('b')}"],
    ],
)
def test_another_digest_than_that_of_the_revision_is_refused(origin: Origin, branch: Branch, images: list[str]) -> None:
    revision = origin.publish(branch, "dev", "b", origin.main[1])
    with pytest.raises(Refused, match=f"dev should run {digest('b')} at {revision[:12]}, but runs"):
        check_live(branch, stage="dev", revision=revision, images=images)


def test_a_revision_that_changed_another_stage_counts_for_what_the_stage_runs_there(
    origin: Origin, branch: Branch
) -> None:
    release = origin.publish(branch, "dev", "b", origin.main[1])
    revision = origin.publish(branch, "local", "c", origin.main[2])
    assert check_live(branch, stage="dev", revision=revision, images=[gateway("b")]).release.commit == release


def test_a_release_that_was_overtaken_is_superseded(origin: Origin, branch: Branch) -> None:
    revision = origin.publish(branch, "dev", "b", origin.main[1])
    origin.publish(branch, "dev", "c", origin.main[2])
    assert check_live(branch, stage="dev", revision=revision, images=[gateway("b")]).superseded


def test_a_revision_off_the_branch_or_before_the_stage_is_refused(origin: Origin, branch: Branch) -> None:
    before = origin.publish(branch, "local", "a", origin.main[0])
    origin.publish(branch, "dev", "b", origin.main[1])
    for revision in (before, origin.main[0], "f" * 40):
        with pytest.raises(Refused, match=f"{revision[:12]} is no commit of manifests at which dev runs anything"):
            check_live(branch, stage="dev", revision=revision, images=[gateway("b")])


def test_manifests_with_two_digests_of_the_image_are_refused(origin: Origin, branch: Branch) -> None:
    files = {"a.yaml": f"image: {gateway('a')}\n", "b.yaml": f"image: {gateway('b')}\n"}
    commit = branch.commit(None, "dev", branch.store(files), f"dev\n\nSource-Commit: {origin.main[0]}")
    assert commit
    branch.push(commit, "refs/heads/manifests")
    with pytest.raises(Refused, match="has 2 digests of sluice/gateway, not one"):
        check_live(branch, stage="dev", revision=commit, images=[gateway("a")])


def test_the_last_release_that_passed_is_kept_at_the_remote(origin: Origin, branch: Branch) -> None:
    first = origin.publish(branch, "dev", "a", origin.main[0])
    assert last_passed(branch, "dev", first) is None
    assert mark_passed(branch, stage="dev", revision=first)
    second = origin.publish(branch, "dev", "b", origin.main[1])
    other = origin.clone("other")
    tip = other.fetch()
    assert tip == second
    passed = last_passed(other, "dev", tip)
    assert passed
    assert passed.commit == first
    assert last_passed(other, "prod", tip) is None


def test_a_pass_is_not_noted_once_the_stage_has_moved_on(origin: Origin, branch: Branch) -> None:
    first = origin.publish(branch, "dev", "a", origin.main[0])
    second = origin.publish(branch, "dev", "b", origin.main[1])
    assert not mark_passed(branch, stage="dev", revision=first)
    assert mark_passed(branch, stage="dev", revision=second)
    assert not mark_passed(branch, stage="dev", revision=first)
    assert origin.tip(passed_ref("dev")) == second


def test_a_late_pass_does_not_replace_a_newer_one(origin: Origin, branch: Branch) -> None:
    first = origin.publish(branch, "dev", "a", origin.main[0])
    second = origin.publish(branch, "local", "b", origin.main[1])  # dev runs the same release at both
    assert mark_passed(branch, stage="dev", revision=second)
    assert not mark_passed(branch, stage="dev", revision=first)
    assert origin.tip(passed_ref("dev")) == second
