"""The workflows' steps, run by act: see tests/support/runner.py."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config import DEV, HAPROXY_IMAGE, IMAGE_REPOSITORY, PROXY_REPOSITORY
from delivery.approved import Approved
from delivery.branch import Branch
from delivery.digests import Digests
from delivery.live import last_seen, mark_passed
from delivery.seen import Seen
from loadtest.judging.record import Record, questions_hash, read_questions, read_records, write_records
from loadtest.reporting.folder import as_json
from testbed.gateway import Served, serve
from testbed.stand_in import StandIn
from testbed.tools import need_tool
from tests.support.questions import every_answer
from tests.support.reports import steady
from tests.support.repositories import REGISTRY, digest, git
from tests.support.runner import BUILT, MANIFEST, OF_WEIGHTS, OUTPUTS, WEIGHTS, Run, Runner, go_tool, tool
from tests.support.stub import Answer, stub

ACTLINT, ACT = ("github.com/rhysd/actionlint/cmd/actionlint", "v1.7.12"), ("github.com/nektos/act", "v0.2.89")

COPY = 'mkdir -p "$ARTIFACTS" && touch "$ARTIFACTS/copied"'


@pytest.fixture
def runner(network: None, tmp_path: Path) -> Runner:
    need_tool("jq", "jq")
    return Runner(tmp_path, act=go_tool(*ACT), k6=tool("k6"))


@pytest.fixture(scope="module")
def engine() -> Iterator[StandIn]:
    server = StandIn(tokens=every_answer()).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def served(engine: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(engine.url, tmp_path_factory.mktemp("gateway") / "log", model=DEV.model.name) as gateway:
        yield gateway


def synced(revision: str, *images: str) -> dict[str, Any]:
    """Return the payload of Argo CD's notification for dev, whose pods run these images."""
    names = [f"{REGISTRY}/{IMAGE_REPOSITORY}@{digest(image)}" for image in images]
    payload = {"app": "sluice-dev", "stage": "dev", "revision": revision, "images": names}
    return {"action": "sluice-synced", "client_payload": payload}


def releases(runner: Runner) -> tuple[str, str]:
    """Have dev run a good release and then the one to try; return the commits of the branch."""
    *_, before, head = runner.origin.main
    good = runner.origin.publish(runner.branch, "a", before)
    return good, runner.origin.publish(runner.branch, "b", head)


def hurry(runner: Runner, at_most: int) -> str:
    """Merge that dev is judged within so many seconds, and return the commit."""
    path = runner.branch.repo / "config/stages.py"
    path.write_text(path.read_text().replace("cpus=3,", f"cpus=3, smoke_at_least=1, smoke_at_most={at_most},"))
    return runner.commit("Hurry")


def prod(runner: Runner) -> Branch:
    return Branch(runner.branch.repo, "prod", runner.branch.keys)


def test_ci_runs_make(runner: Runner) -> None:
    run = runner.run("ci", "pull_request", {"number": 1})
    assert run.succeeded, run.output
    assert "make \n" in run.calls


def test_a_pull_request_that_changes_only_prods_release_waits_for_no_tests(runner: Runner) -> None:
    prod_json, other = (runner.branch.repo / "delivery" / name for name in ("prod.json", "weights.json"))
    prod_json.write_text("{}\n\n")
    runner.commit("A rollback")
    run = runner.run("ci", "pull_request", {"number": 1})
    assert (run.succeeded, "make" in run.calls) == (True, False), run.output
    prod_json.write_text("{}")
    other.write_text("{}")
    runner.commit("A rollback and more")
    assert "make \n" in runner.run("ci", "pull_request", {"number": 1}).calls


def test_e2e_installs_kind_and_runs_make_e2e(runner: Runner) -> None:
    run = runner.run("e2e", "pull_request", {"number": 1})
    assert run.succeeded, run.output
    assert re.fullmatch(r"go install sigs.k8s.io/kind@v\S+\nmake e2e\n", run.calls)


def test_deliver_renders_what_was_built_and_has_dev_run_it(runner: Runner) -> None:
    run = runner.run("deliver", "push", {}, "--var", "PUSH_ROLE_ARN=role")
    assert run.succeeded, run.output
    assert runner.origin.log() == [f"dev: {runner.origin.main[-1][:12]}"]
    tip = runner.branch.fetch()
    assert tip
    assert runner.branch.digests(tip) == Digests(BUILT, {"moondream": WEIGHTS})


def test_an_image_that_is_not_attested_by_this_workflow_is_not_released(runner: Runner) -> None:
    gh = runner.folder / "bin" / "gh"
    for workflow, digest_ in {"deliver": BUILT, "models": WEIGHTS}.items():
        gh.write_text(f'#!/bin/sh\necho "gh $*" >> "$LOG"\ncase "$*" in *{workflow}.yml*) exit 1 ;; esac\n')
        run = runner.run("deliver", "push", {}, "--var", "PUSH_ROLE_ARN=role")
        assert (run.succeeded, run.outcome("publish")) == (False, "failed"), run.output
        verified = run.calls.splitlines()[-1]
        assert verified.startswith(f"gh attestation verify verify/{digest_[7:]}.json --repo octo/sluice")
        assert (
            f"--signer-workflow octo/sluice/.github/workflows/{workflow}.yml --source-ref refs/heads/main" in verified
        )
        assert git(runner.origin.path, "branch", "--list", "stages/*") == ""


def test_a_manifest_with_another_digest_is_not_released(runner: Runner) -> None:
    docker = runner.folder / "bin" / "docker"
    script = docker.read_text()
    for said, digest_ in {MANIFEST: BUILT, OF_WEIGHTS: WEIGHTS}.items():
        docker.write_text(script.replace(f'"{said}"', '"another manifest"'))
        run = runner.run("deliver", "push", {}, "--var", "PUSH_ROLE_ARN=role")
        assert (run.succeeded, run.outcome("publish")) == (False, "failed"), run.output
        assert f"verify/{digest_[7:]}.json: FAILED" in run.output
        assert git(runner.origin.path, "branch", "--list", "stages/*") == ""


def test_the_proxys_image_is_copied_by_digest_once(runner: Runner) -> None:
    docker, digest_ = runner.folder / "bin" / "docker", HAPROXY_IMAGE.partition("@")[2]
    script = docker.read_text().replace(
        "esac", f'*" inspect "*) [ -e "$ARTIFACTS/copied" ] ;; *" create "*) {COPY} ;; esac'
    )
    docker.write_text(script)
    copy = f"{OUTPUTS['aws-actions/amazon-ecr-login']['registry']}/{PROXY_REPOSITORY}"
    run = runner.run("deliver", "push", {}, "--var", "PUSH_ROLE_ARN=role", "--job", "proxy")
    assert run.succeeded, run.output
    assert f"docker buildx imagetools create --tag {copy}:{digest_[7:19]} {HAPROXY_IMAGE}\n" in run.calls
    assert run.calls.count(f"docker buildx imagetools inspect {copy}@{digest_}\n") == 2
    assert "Main actions/attest@" in run.output


def test_deliver_does_nothing_before_there_is_a_registry(runner: Runner) -> None:
    run = runner.run("deliver", "push", {})
    assert [run.outcome(job) for job in ("build", "scan", "render", "publish")] == ["skipped"] * 4
    assert run.succeeded


def test_promote_proposes_what_dev_was_rendered_from(runner: Runner) -> None:
    runner.origin.publish(runner.branch, "b", runner.origin.main[-1])
    tried = runner.origin.main[-1]
    config = runner.branch.repo / "config/stages.py"
    config.write_text(config.read_text().replace("slots=8", "slots=7"))
    runner.commit("What dev hasn't tried")
    run = runner.run("promote", "workflow_dispatch", {})
    assert run.succeeded, run.output
    head = f"promote/{tried[:12]}"
    assert f"/octo/sluice/compare/main...{head}?quick_pull=1" in run.output
    approved = json.loads(git(runner.origin.path, "show", f"{head}:delivery/prod.json"))
    weights = {"moondream": digest("0")}
    assert approved == {"source": tried, "image": digest("b"), "weights": weights, "reverts": ""}
    assert re.search(r'^.*\+ +SLOTS: "8"', run.output, re.MULTILINE)


def test_what_main_approves_is_rendered_from_its_own_commit_and_prod_runs_it(runner: Runner) -> None:
    tried = runner.origin.main[-1]
    config = runner.branch.repo / "config/stages.py"
    config.write_text(config.read_text().replace("slots=8", "slots=7"))
    runner.origin.publish(runner.branch, "b", tried)
    digests = Digests(digest("b"), {"moondream": digest("0")})
    approved = Approved.of(digests, source=tried)
    (runner.branch.repo / "delivery/prod.json").write_text(approved.text())
    merged = runner.commit("Release to prod, and what dev hasn't tried")
    run = runner.run("prod", "push", {}, "--var", "PUSH_ROLE_ARN=role")
    assert run.succeeded, run.output
    branch = prod(runner)
    tip = branch.fetch()
    assert tip
    release = branch.release(tip)
    assert (release.source, release.main, branch.digests(tip)) == (tried, merged, digests)
    assert git(runner.origin.path, "grep", 'SLOTS: "8"', "stages/prod", "--", "prod/")


def test_a_good_release_is_noted_and_the_next_one_is_compared_with_it(runner: Runner, served: Served) -> None:
    runner.answer_at(served.url)
    good = runner.origin.publish(runner.branch, "a", runner.origin.main[-1])
    live = Record(DEV.shape, questions_hash(), frozenset(range(len(read_questions()))))
    assert mark_passed(runner.branch, good, Seen("Passed.", write_records({DEV.model.name: live})))
    revision = runner.origin.publish(runner.branch, "b", hurry(runner, at_most=60))
    run = runner.run("smoke", "repository_dispatch", synced(revision, "b"))
    assert run.succeeded, run.output
    outcomes = [run.outcome(job) for job in ("live", "smoke", "passed", "rollback")]
    assert outcomes == ["succeeded", "succeeded", "succeeded", "skipped"]
    runner.branch.fetch()
    seen = last_seen(runner.branch, revision)
    assert "answers failed: that rules out 5 % (error rate 2 %)." in seen.judgement
    assert "answers were wrong where the live release is right: that rules out 30 %" in seen.judgement
    assert read_records(seen.record)[DEV.model.name].first
    assert "Passed, by " in run.output


def test_a_release_that_is_too_busy_to_be_asked_is_neither_noted_as_good_nor_taken_back(runner: Runner) -> None:
    busy: Answer = (503, {"Retry-After": "0.1"}, {"error": {"code": "saturated"}})
    with stub(lambda request: busy) as server:
        runner.answer_at(server.url)
        revision = runner.origin.publish(runner.branch, "b", hurry(runner, at_most=2))
        run = runner.run("smoke", "repository_dispatch", synced(revision, "b"))
    assert run.succeeded, run.output
    outcomes = [run.outcome(job) for job in ("live", "smoke", "passed", "rollback")]
    assert outcomes == ["succeeded", "succeeded", "skipped", "skipped"]
    assert "::warning title=smoke::Not judged: busy, by 0 answers" in run.output
    assert git(runner.origin.path, "tag", "--list") == ""
    assert runner.origin.tip() == revision


def test_a_release_that_answers_wrongly_is_taken_back_and_its_commit_says_so(
    runner: Runner, served: Served, engine: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.answer_at(served.url)
    _, revision = releases(runner)
    monkeypatch.setattr(engine, "tokens", ["banana"])
    run = runner.run("smoke", "repository_dispatch", synced(revision, "b"))
    assert not run.succeeded
    outcomes = [run.outcome(job) for job in ("live", "smoke", "passed", "rollback")]
    assert outcomes == ["succeeded", "failed", "skipped", "succeeded"], run.output
    asked = f"--raw-field stage=dev --raw-field revision={revision} --raw-field reason=Bad, by "
    assert f"gh workflow run rollback.yml --repo octo/sluice {asked}" in run.calls
    reason = run.calls.partition("--raw-field reason=")[2].splitlines()[0]
    inputs = {"stage": "dev", "to": "", "revision": revision, "reason": reason}
    run = runner.run("rollback", "workflow_dispatch", {"inputs": inputs})
    assert run.succeeded, run.output
    assert runner.origin.image() == "a"
    *_, before, head = runner.origin.main
    assert runner.origin.log()[0] == f"dev: back to {before[:12]}"
    assert f"gh api --silent repos/octo/sluice/commits/{head}/comments --field body=@" in run.calls
    comment = run.calls.partition(f"dev was rolled back from {head} to {before}.\n\n")[2]
    quoted = comment.partition("\n\nSee https://")[0].splitlines()
    assert all(line.startswith("    ") and len(line) <= 104 for line in quoted)
    assert "".join(line.removeprefix("    ") for line in quoted) == reason
    assert "answers were wrong: a good release has 30 % (error rate 1.25 %)." in reason


@pytest.mark.parametrize(
    ("images", "reason", "outcomes"),
    [
        ("b", "set addresses=dev=https://… there to where dev is reached", ["failed", "skipped"]),
        ("a", "dev should run sha256:bbbb", ["failed", "skipped"]),
    ],
)
def test_a_smoke_that_could_not_be_run_takes_nothing_back(
    runner: Runner, images: str, reason: str, outcomes: list[str]
) -> None:
    _, revision = releases(runner)
    # Whoever may write to the repository may set its variables, which decide nothing.
    run = runner.run("smoke", "repository_dispatch", synced(revision, images), "--var", "DEV_URL=http://evil.example")
    found = [run.outcome(job) for job in ("live", "smoke", "passed", "rollback")]
    assert found == [*outcomes, "skipped", "skipped"], run.output
    assert reason in run.output
    assert runner.origin.tip() == revision


def test_a_release_that_was_overtaken_is_not_tried(runner: Runner) -> None:
    good, _ = releases(runner)
    run = runner.run("smoke", "repository_dispatch", synced(good, "a"))
    assert run.succeeded, run.output
    outcomes = [run.outcome(job) for job in ("live", "smoke", "passed", "rollback")]
    assert outcomes == ["succeeded", "skipped", "skipped", "skipped"]


def test_a_dispatch_cannot_bring_commands(runner: Runner, tmp_path: Path) -> None:
    _, revision = releases(runner)
    payload = synced(revision, "b")
    for field in ("stage", "revision"):
        evil = {
            "client_payload": payload["client_payload"] | {field: f'$(touch {tmp_path}/evil)"; touch {tmp_path}/evil'}
        }
        for workflow in ("smoke", "rollback"):
            assert not runner.run(workflow, "repository_dispatch", evil).succeeded
    assert not (tmp_path / "evil").exists()


def test_a_sync_that_failed_is_taken_back_and_its_commit_says_why(runner: Runner) -> None:
    _, revision = releases(runner)
    payload = synced(revision)["client_payload"] | {"reason": "ImagePullBackOff;\nnot\r`found`"}
    run = runner.run("rollback", "repository_dispatch", {"action": "sluice-sync-failed", "client_payload": payload})
    assert run.succeeded, run.output
    assert runner.origin.image() == "a"
    assert "\n\n    ImagePullBackOff; not `found`\n\nSee https://" in run.calls


def test_a_person_takes_prod_back_by_a_pull_request(runner: Runner) -> None:
    good, bad = (
        runner.origin.publish(prod(runner), image, source)
        for image, source in zip("ab", runner.origin.main[1:], strict=True)
    )
    inputs = {"stage": "prod", "to": good, "revision": ""}
    run = runner.run("rollback", "workflow_dispatch", {"inputs": inputs})
    assert run.succeeded, run.output
    head = f"rollback/prod-{bad[:12]}"
    assert (
        f"A rollback of prod waits for a pull request: https://github.com/octo/sluice/compare/main...{head}"
        in run.calls
    )
    assert runner.origin.image("prod") == "b"
    assert json.loads(git(runner.origin.path, "show", f"{head}:delivery/prod.json"))["image"] == digest("a")


def test_models_proposes_the_digest_of_what_it_pushed(runner: Runner) -> None:
    run = runner.run("models", "workflow_dispatch", {"inputs": {"model": "llava:13b"}}, "--var", "PUSH_ROLE_ARN=role")
    assert run.succeeded, run.output
    assert "docker exec ollama ollama pull llava:13b\n" in run.calls
    head = f"weights/{BUILT[7:19]}"
    known = json.loads(git(runner.origin.path, "show", f"{head}:delivery/weights.json"))
    assert known["llava:13b"] == BUILT
    assert known["moondream"] == WEIGHTS
    assert f"/octo/sluice/compare/main...{head}?quick_pull=1" in run.output


def test_models_pushes_nothing_that_is_not_of_ollamas_library(runner: Runner) -> None:
    for name in ("evil.example/x/y", "hf.co/evil/model", "evil/model", "--insecure", "a b"):
        run = runner.run("models", "workflow_dispatch", {"inputs": {"model": name}}, "--var", "PUSH_ROLE_ARN=role")
        assert not run.succeeded, name
        assert "isn't a name in Ollama's library" in run.output
        assert "docker" not in run.calls


def nightly(runner: Runner, url: str, **inputs: str) -> Run:
    """Run the nightly for a second or two, at a rate that gives enough answers to compare."""
    if url:
        runner.answer_at(url)
    payload = {"inputs": {"rate": "20", "minutes": "0.03", "accept": "false", **inputs}}
    return runner.run("nightly", "workflow_dispatch", payload, "--var", "PUSH_ROLE_ARN=role")


def have_last_report(runner: Runner, folder: Path, answers_take: float) -> None:
    """Have `gh` find the report of an earlier nightly, whose answers took so many seconds."""
    made = steady(1, seconds=answers_take, rate=20, minutes=0.03, max_tokens=64)
    folder.mkdir()
    (folder / "report.json").write_text(as_json(made))
    gh = runner.folder / "bin" / "gh"
    # The newest run that GitHub lists was somebody else's, of a branch or a tag with the name main.
    script = (
        'case "$*" in *" list "*) printf "8 evil\\n7 good\\n" ;; *main...evil*) echo diverged ;; '
        f'*main...good*) echo behind ;; *" download 7 "*) cp -r {folder} "${{@: -1}}" ;; esac'
    )
    gh.write_text(f'#!/bin/bash\necho "gh $*" >> "$LOG"\n{script}\n')


def test_the_first_nightly_has_nothing_to_compare_with(runner: Runner, served: Served) -> None:
    run = nightly(runner, served.url)
    assert run.succeeded, run.output
    assert "Every target was met." in run.output
    assert "There is no report to compare with." in run.output
    assert "gh run list --workflow nightly.yml --branch main --status success --limit 100" in run.calls


def test_there_is_no_nightly_load_without_an_address_on_main(runner: Runner) -> None:
    run = nightly(runner, "")
    assert run.succeeded, run.output
    assert [run.outcome(job) for job in ("address", "load")] == ["succeeded", "skipped"]
    assert "dev has no domain in cdk.json" in run.output


@pytest.mark.parametrize(
    ("answers_took", "inputs", "succeeds", "says"),
    [
        (60.0, {}, True, "Nothing got worse by more than noise."),
        (0.0001, {}, False, "**B is a regression**: whole answer p50, s"),
        (0.0001, {"accept": "true"}, True, "Every target was met."),
        (0.0001, {"rate": "19"}, True, "these runs can't be compared: rate is 20 in A and 19 in B"),
    ],
)
def test_a_nightly_fails_if_it_is_worse_than_the_last_good_one(
    runner: Runner,
    served: Served,
    tmp_path: Path,
    answers_took: float,
    inputs: dict[str, str],
    succeeds: bool,
    says: str,
) -> None:
    have_last_report(runner, tmp_path / "last", answers_took)
    run = nightly(runner, served.url, **inputs)
    assert (run.succeeded, says in run.output) == (succeeds, True), run.output


def test_infra_compares_a_pull_request_with_its_base(runner: Runner) -> None:
    run = runner.run("infra", "pull_request", {"number": 1}, "--matrix", "stage:dev", "--var", "DEPLOY_ROLE_ARN=role")
    assert run.succeeded, run.output
    diff = "npx --no-install cdk diff --app cdk.out --exclusively --template"
    assert f"{diff} base/cdk.out/sluice-registry.template.json sluice-registry\n" in run.calls
    assert re.search(rf"{diff} \S+/none.json sluice-new\n", run.calls)
    assert "make --silent cost STAGE=dev\n" in run.calls
    assert "<summary>sluice-registry</summary>" in run.output


def test_infra_deploys_the_stage_that_a_person_names(runner: Runner) -> None:
    run = runner.run("infra", "workflow_dispatch", {"inputs": {"stage": "prod"}}, "--var", "DEPLOY_ROLE_ARN=role")
    assert run.succeeded, run.output
    synth = "make synth SYNC=--no-default-groups --group infra STAGE=prod\n"
    deploy = "npx --no-install cdk deploy --all --app cdk.out --require-approval never\n"
    assert run.calls == f"{synth}npm ci --ignore-scripts\n{deploy}"
