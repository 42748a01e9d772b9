import json

import pytest

from config import DEV, IMAGE_REPOSITORY
from delivery.branch import Branch, Refused
from delivery.digests import read_releases
from delivery.live import check_live, last_passed, last_seen, mark_passed, passed_tag
from delivery.publish import publish
from delivery.seen import Seen
from tests.delivery.conftest import Command
from tests.support.rendered import IMAGE, files
from tests.support.repositories import REGISTRY, Origin, digest, git, other_keys

HAPROXY = "docker.io/library/haproxy:3.0"


def gateway(letter: str) -> str:
    return f"{REGISTRY}/{IMAGE_REPOSITORY}@{digest(letter)}"


def test_the_digest_of_the_revision_is_found_among_what_runs(origin: Origin, branch: Branch) -> None:
    revision = origin.publish(branch, "b", origin.main[1])
    live = check_live(branch, revision=revision, images=[HAPROXY, gateway("a"), gateway("b")])
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
    revision = origin.publish(branch, "b", origin.main[1])
    with pytest.raises(Refused, match=f"dev should run {digest('b')} at {revision[:12]}, but runs"):
        check_live(branch, revision=revision, images=images)


def test_a_release_that_was_overtaken_is_superseded(origin: Origin, branch: Branch) -> None:
    revision = origin.publish(branch, "b", origin.main[1])
    origin.publish(branch, "c", origin.main[2])
    assert check_live(branch, revision=revision, images=[gateway("b")]).superseded


def test_a_revision_off_the_branch_is_refused(origin: Origin, branch: Branch, prod: Branch) -> None:
    elsewhere = origin.publish(prod, "a", origin.main[0])
    for revision in (elsewhere, origin.main[0], "f" * 40):
        with pytest.raises(Refused, match=f"{revision[:12]} is no commit of stages/dev"):
            check_live(branch, revision=revision, images=[gateway("b")])
    origin.publish(branch, "b", origin.main[1])
    for revision in (elsewhere, origin.main[0], "f" * 40):
        with pytest.raises(Refused, match=f"{revision[:12]} is no commit of stages/dev"):
            check_live(branch, revision=revision, images=[gateway("b")])


def test_manifests_with_two_digests_of_the_image_are_refused(origin: Origin, branch: Branch) -> None:
    folder = branch.store({"a.yaml": f"image: {gateway('a')}\n", "b.yaml": f"image: {gateway('b')}\n"})
    with pytest.raises(Refused, match="has 2 digests of sluice/gateway, not one"):
        branch.digests(folder)


def test_the_last_release_that_passed_is_kept_at_the_remote(origin: Origin, branch: Branch, prod: Branch) -> None:
    first = origin.publish(branch, "a", origin.main[0])
    assert last_passed(branch, first) is None
    assert mark_passed(branch, first)
    second = origin.publish(branch, "b", origin.main[1])
    other = origin.clone("other")
    assert other.fetch() == second
    passed = last_passed(other, second)
    assert passed
    assert passed.commit == first
    assert last_passed(prod, origin.publish(prod, "a", origin.main[0])) is None


SEEN = Seen("Passed, by 96 answers in 31 s. 0 of 96 failed: that rules out 5 %.", '{"moondream":{"first":{"1":[0.2]}}}')


def test_what_was_seen_of_the_release_before_is_in_its_signed_tag(origin: Origin, branch: Branch, prod: Branch) -> None:
    first = origin.publish(branch, "a", origin.main[0])
    assert last_seen(branch, first) == Seen()
    assert mark_passed(branch, first, SEEN)
    second = origin.publish(branch, "b", origin.main[1])
    other = origin.clone("other")
    other.fetch()
    assert last_seen(other, second) == last_seen(other, first) == SEEN
    tag = git(origin.path, "cat-file", "tag", passed_tag("dev", first))
    assert f"\n\ndev passed its smoke test\n\n{SEEN.judgement}\n\n{SEEN.record}\n-----BEGIN PGP SIGNATURE-----" in tag
    assert last_seen(prod, origin.publish(prod, "a", origin.main[0])) == Seen()


def test_of_a_release_that_passed_before_anything_was_kept_nothing_is_known(origin: Origin, branch: Branch) -> None:
    first = origin.publish(branch, "a", origin.main[0])
    assert mark_passed(branch, first)
    assert last_seen(branch, first) == Seen()


def test_the_commands_pass_on_what_was_seen(origin: Origin, branch: Branch, command: Command) -> None:
    first = origin.publish(branch, "a", origin.main[0])
    passed = ("passed", "--stage", "dev", "--revision", first)
    assert command(*passed, "--judgement", SEEN.judgement, "--record", SEEN.record)[0] == 0
    second = origin.publish(branch, "b", origin.main[1])
    code, outputs = command("live", "--stage", "dev", "--revision", second, "--images", f'["{gateway("b")}"]')
    told = {"source": origin.main[1], "superseded": "false", "releases": "", "record": SEEN.record}
    assert (code, outputs) == (0, told)


def test_what_the_pods_should_be_of_is_passed_on(origin: Origin, branch: Branch, command: Command) -> None:
    source, folder = origin.main[1], branch.store(files(DEV))
    revision = publish(branch, folder=folder, source=source, main=source)
    assert revision
    images = f'["{REGISTRY}/{IMAGE_REPOSITORY}@{IMAGE}"]'
    releases = command("live", "--stage", "dev", "--revision", revision, "--images", images)[1]["releases"]
    assert json.loads(releases) == read_releases(branch.repo, folder)
    assert json.loads(releases).keys() == {"", DEV.model.name}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--judgement", "two\nlines"], "one line of at most 20,000 characters"),
        (["--judgement", "x" * 20_001], "one line of at most 20,000 characters"),
        (["--record", "{"], "a JSON object in one line of at most 60,000 characters"),
        (["--record", "[]"], "a JSON object in one line"),
        (["--record", '{"a":\n1}'], "a JSON object in one line"),
        (["--record", '{"a":"' + "x" * 60_000 + '"}'], "at most 60,000 characters"),
    ],
)
def test_what_no_smoke_has_seen_is_not_signed(
    origin: Origin,
    branch: Branch,
    command: Command,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    reason: str,
) -> None:
    revision = origin.publish(branch, "a", origin.main[0])
    with pytest.raises(SystemExit, match="2"):
        command("passed", "--stage", "dev", "--revision", revision, *arguments)
    assert reason in capsys.readouterr().err
    assert last_passed(branch, revision) is None


def test_a_pass_is_not_noted_once_the_stage_has_moved_on(origin: Origin, branch: Branch) -> None:
    first = origin.publish(branch, "a", origin.main[0])
    second = origin.publish(branch, "b", origin.main[1])
    assert not mark_passed(branch, first)
    assert mark_passed(branch, second)
    assert not mark_passed(branch, first)
    assert git(origin.path, "tag", "--list") == passed_tag("dev", second)


def test_a_pass_that_is_noted_twice_is_the_same_tag(origin: Origin, branch: Branch) -> None:
    first = origin.publish(branch, "a", origin.main[0])
    assert mark_passed(branch, first)
    tag = origin.tip(f"refs/tags/{passed_tag('dev', first)}")
    assert mark_passed(origin.clone("other"), first)
    assert origin.tip(f"refs/tags/{passed_tag('dev', first)}") == tag


def test_a_rollback_takes_no_tag_that_ci_has_not_signed_for_this_commit(origin: Origin, branch: Branch) -> None:
    good, bad = (origin.publish(branch, image, source) for image, source in zip("ab", origin.main, strict=False))
    assert mark_passed(branch, bad)  # CI's own tag, for another commit
    signed = origin.tip(f"refs/tags/{passed_tag('dev', bad)}")
    git(origin.path, "update-ref", "-d", f"refs/tags/{passed_tag('dev', bad)}")
    name = passed_tag("dev", good)
    forged = {
        "a plain ref": good,
        "a tag that CI signed for another commit": signed,
        "an unsigned tag": git(
            origin.path,
            "mktag",
            stdin=git(origin.path, "cat-file", "tag", signed).partition("-----BEGIN")[0].replace(bad, good),
        ),
        "CI's text with another commit under its signature": git(
            origin.path, "mktag", stdin=git(origin.path, "cat-file", "tag", signed).replace(bad, good) + "\n"
        ),
    }
    for what, value in forged.items():
        git(origin.path, "update-ref", f"refs/tags/{name}", value)
        assert (last_passed(branch, bad), last_seen(branch, bad)) == (None, Seen()), what
    forger = other_keys()
    options = ["--force", "--local-user", forger.signer, "--message", "passed"]
    git(origin.path, "tag", *options, name, good, GNUPGHOME=str(forger.home))
    assert last_passed(branch, bad) is None
