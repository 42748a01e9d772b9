"""The workflows: checked by the linters, by rules of our own, and run by act as far as it can."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from config import DEV, HAPROXY_IMAGE, IMAGE_REPOSITORY, PROD, PROXY_REPOSITORY, WEIGHTS_REPOSITORY
from delivery.approved import Approved
from delivery.branch import Branch
from delivery.git import COMMITTER_EMAIL, COMMITTER_NAME
from delivery.live import passed_tag
from loadtest.reporting.folder import as_json
from testbed import ROOT
from testbed.gateway import Served, serve
from testbed.stand_in import StandIn
from testbed.tools import missing, need_tool
from tests.support.reports import steady
from tests.support.repositories import REGISTRY, digest, git
from tests.support.runner import BUILT, OUTPUTS, WORKFLOWS, Run, Runner, go_tool
from tests.support.stub import Answer, stub

BIN = Path(sys.executable).parent
NAMES = ["ci", "deliver", "e2e", "infra", "models", "nightly", "prod", "promote", "rollback", "smoke"]
ACTLINT, ACT = ("github.com/rhysd/actionlint/cmd/actionlint", "v1.7.12"), ("github.com/nektos/act", "v0.2.89")


COPY = 'mkdir -p "$ARTIFACTS" && touch "$ARTIFACTS/copied"'


def load(name: str) -> dict[Any, Any]:
    """Return a workflow; YAML 1.1 reads its `on` as True."""
    workflow: dict[Any, Any] = yaml.safe_load((WORKFLOWS / f"{name}.yml").read_text())
    return workflow


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for name in NAMES:
        for id_, job in load(name)["jobs"].items():
            yield f"{name}/{id_}", job


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in jobs():
        for step in job.get("steps", []):
            yield name, step


def tool(name: str) -> str:
    """Return the path of a program that `make sync` installs."""
    return shutil.which(name, path=f"{BIN}{os.pathsep}{os.environ['PATH']}") or missing(f"{name} is missing: make sync")


def test_these_are_all_the_workflows() -> None:
    assert sorted(path.stem for path in WORKFLOWS.iterdir()) == NAMES


@pytest.mark.usefixtures("network")
def test_actionlint_and_shellcheck_have_nothing_to_say() -> None:
    # GitHub has had `queue` since 2026-05; actionlint 1.7.12 is older.
    command = [
        go_tool(*ACTLINT),
        "-ignore",
        'unexpected key "queue" for "concurrency"',
        "-shellcheck",
        tool("shellcheck"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("programs")
def test_zizmor_has_nothing_to_say() -> None:
    command = [tool("zizmor"), "--offline", "--no-progress", "--persona=pedantic", ".github"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_action_is_pinned_by_commit_with_its_version_beside_it() -> None:
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS.iterdir():
        for use in re.findall(r"uses: (.*)", path.read_text()):
            if use.startswith("./"):
                continue
            pinned = re.fullmatch(r"([\w-]+/[\w-]+)@([0-9a-f]{40} # v\d+\.\d+\.\d+)", use)
            assert pinned, use
            pins.setdefault(pinned[1], set()).add(pinned[2])
    assert all(len(versions) == 1 for versions in pins.values()), pins


def test_nothing_is_pasted_into_a_script() -> None:
    for name, step in steps():
        assert "${{" not in step.get("run", ""), name


WRITERS = {
    "deliver/attest": {"id-token", "attestations"},
    "deliver/build": {"id-token", "attestations"},
    "deliver/proxy": {"id-token", "attestations"},
    "infra/deploy": {"id-token"},
    "models/build": {"id-token", "attestations"},
    "models/propose": {"contents"},
    "nightly/drift": {"id-token"},
    "promote/propose": {"contents"},
    "rollback/rollback": {"contents"},
    "smoke/rollback": {"actions"},
}
RELEASING = ["deliver/publish", "prod/publish", "rollback/rollback", "smoke/passed"]


def test_each_job_has_the_permissions_that_it_needs_and_no_workflow_has_any() -> None:
    assert all(load(name)["permissions"] == {} for name in NAMES)
    for name, job in jobs():
        written = {scope for scope, level in job["permissions"].items() if level == "write"}
        assert written == WRITERS.get(name, set()), name
        read = {"nightly/load": {"actions"}, "deliver/publish": {"attestations"}}.get(name, set())
        assert written or job["permissions"].get("contents") == "read", name
        assert set(job["permissions"]) <= written | read | {"contents"}, name


@pytest.mark.usefixtures("programs")
def test_the_end_to_end_tests_run_on_changes_of_all_that_they_import() -> None:
    paths = load("e2e")[True]["pull_request"]["paths"]
    assert [path for path in paths if not (ROOT / path.lstrip("!").removesuffix("/**")).exists()] == []
    modules = ", ".join(f"tests.e2e.{path.stem}" for path in (ROOT / "tests/e2e").glob("test_*.py"))
    code = f"import sys, {modules}; print(*(getattr(each, '__file__', '') for each in sys.modules.values()), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    prefix = f"{ROOT}{os.sep}"
    imported = {line.removeprefix(prefix) for line in done.stdout.splitlines() if line.startswith(prefix)}
    assert "delivery/branch.py" in imported
    ours = {file for file in imported if not file.startswith((".venv/", "tests/"))}
    assert {file for file in ours if not any(fnmatch(file, path) for path in paths)} == set()


def test_code_of_a_pull_request_meets_no_secret_no_role_and_no_kept_token() -> None:
    for name in NAMES:
        triggers = load(name)[True]
        assert "pull_request_target" not in triggers
        if "pull_request" not in triggers:
            continue
        for id_, job in load(name)["jobs"].items():
            if "workflow_dispatch" in job.get("if", ""):
                continue
            assert job["permissions"] == {"contents": "read"}, f"{name}/{id_}"
            assert "secrets." not in json.dumps(job)
            checkout = next(step for step in job["steps"] if "checkout" in step.get("uses", ""))
            assert checkout["with"]["persist-credentials"] is False


def test_a_role_is_assumed_on_main_only() -> None:
    for name, job in jobs():
        if job["permissions"].get("id-token") != "write":
            continue
        triggers = load(name.partition("/")[0])[True]
        assert "refs/heads/main" in job.get("if", "") or triggers == {"push": triggers["push"]}, name
        assert triggers.get("push", {"branches": ["main"]})["branches"] == ["main"]
    # The roles' trust names either the branch or the environment, never both.
    assert load("infra")["jobs"]["deploy"]["environment"] == "prod"
    assert "environment" not in load("deliver")["jobs"]["build"]


def test_only_jobs_in_the_environment_release_have_the_keys_and_they_run_nobody_elses_code() -> None:
    found = dict(jobs())
    assert [name for name, job in found.items() if job.get("environment") == "release"] == RELEASING
    for name, job in found.items():
        assert ("secrets.SIGNING_KEY" in json.dumps(job)) == ("secrets.DEPLOY_KEY" in json.dumps(job))
        assert ("secrets.SIGNING_KEY" in json.dumps(job)) == (name in RELEASING), name
    for name, step in steps():
        if name in RELEASING:
            uses, command = step.get("uses", ""), step.get("run", "")
            assert not uses or uses.startswith(("actions/checkout@", "actions/download-artifact@")), name
            assert not re.search(r"\b(make|npm|npx|uv|pip|\.venv)\b", command), name
        if name in RELEASING and "checkout" in step.get("uses", ""):
            assert "ref" not in step["with"]  # main's own code


def test_what_installs_packages_has_no_credentials() -> None:
    for name, job in jobs():
        said = [step.get("run", "") for step in job.get("steps", [])]
        if not any(re.search(r"\b(make sync|make synth|make$)", command) for command in said):
            continue
        assert {scope for scope, level in job["permissions"].items() if level == "write"} == set(), name
        for step in job["steps"]:
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False, name
        assert "environment" not in job, name


def test_the_deployment_installs_the_cdks_command_line_only_and_before_it_has_a_role() -> None:
    deploy = load("infra")["jobs"]["deploy"]["steps"]
    said = [step.get("run") or step["uses"].partition("@")[0] for step in deploy]
    role = said.index("aws-actions/configure-aws-credentials")
    assert said.index("npm ci --ignore-scripts") < role
    assert said[role + 1 :] == ["npx --no-install cdk deploy --all --app cdk.out --require-approval never"]
    assert set(json.loads((ROOT / "package.json").read_text())["devDependencies"]) == {"aws-cdk"}


def test_all_that_write_a_branch_wait_for_each_other_and_none_is_dropped() -> None:
    groups = {"deliver/publish": "stages-dev", "prod/publish": "stages-prod"}
    groups["rollback/rollback"] = "stages-${{ inputs.stage || github.event.client_payload.stage }}"
    for name, group in groups.items():
        assert dict(jobs())[name]["concurrency"] == {"group": group, "queue": "max"}
        checkout = next(step for n, step in steps() if n == name and "checkout" in step.get("uses", ""))
        assert checkout["with"]["fetch-depth"] == 0
    assert load("deliver")["concurrency"] == {"group": "deliver", "cancel-in-progress": False}


def test_no_workflow_opens_pull_requests_so_none_needs_the_right_to_approve_them() -> None:
    for path in WORKFLOWS.iterdir():
        assert "gh pr" not in path.read_text()
        assert "pull-requests: write" not in path.read_text()


def test_every_job_ends() -> None:
    assert all("timeout-minutes" in job for _, job in jobs() if "steps" in job)


def test_images_are_built_for_both_processors_without_caches_and_pushed_by_digest() -> None:
    for job, repository in (("deliver/build", IMAGE_REPOSITORY), ("models/build", WEIGHTS_REPOSITORY)):
        inputs = next(step["with"] for name, step in steps() if name == job and step.get("id") == "build")
        assert inputs["platforms"] == "linux/amd64,linux/arm64"
        registry = "${{ steps.registry.outputs.registry }}"
        by_digest = f"type=image,name={registry}/{repository},push-by-digest=true,name-canonical=true,push=true"
        assert inputs["outputs"].startswith(by_digest)
        assert "rewrite-timestamp=true" in inputs["outputs"]  # the same sources give the same digest
        assert not {"tags", "cache-from", "cache-to"} & set(inputs)
    for name, step in steps():
        if name in ("deliver/build", "models/build") and "setup-buildx" in step.get("uses", ""):
            assert re.search(r"@sha256:[0-9a-f]{64}$", step["with"]["driver-opts"])
            assert step["with"]["cache-binary"] is False
        if "setup-qemu" in step.get("uses", ""):
            assert re.search(r"@sha256:[0-9a-f]{64}$", step["with"]["image"])
            assert step["with"]["cache-image"] is False
    assert "actions/cache" not in (WORKFLOWS / "deliver.yml").read_text()


def test_what_was_pushed_is_attested_and_verified_before_the_stage_changes() -> None:
    for job in ("deliver/build", "models/build"):
        said = [step for name, step in steps() if name == job]
        digests = [step["with"]["subject-digest"] for step in said if "actions/attest@" in step.get("uses", "")]
        assert digests == ["${{ steps.build.outputs.digest }}"]
    publish = load("deliver")["jobs"]["publish"]
    assert {"build", "render", "attest", "proxy"} == set(publish["needs"])
    said = [step.get("run", "") for step in publish["steps"]]
    (verify,) = [index for index, command in enumerate(said) if "gh attestation verify" in command]
    (release,) = [index for index, command in enumerate(said) if "delivery publish" in command]
    assert verify < release
    for option in (
        '--signer-workflow "$GITHUB_REPOSITORY/.github/workflows/deliver.yml"',
        "--source-ref refs/heads/main",
        '--source-digest "$GITHUB_SHA"',
    ):
        assert option in said[verify]


def test_an_image_with_a_known_vulnerability_that_is_fixed_is_not_released() -> None:
    scan = next(step["with"] for _, step in steps() if "anchore/scan-action" in step.get("uses", ""))
    assert (scan["fail-build"], scan["severity-cutoff"], scan["only-fixed"]) == (True, "high", True)
    assert "scan" in load("deliver")["jobs"]["attest"]["needs"]


def test_every_exception_of_the_scan_has_a_reason_and_a_date_that_is_to_come() -> None:
    for rule in yaml.safe_load((ROOT / ".grype.yaml").read_text())["ignore"]:
        until = re.search(r"; until (\d{4}-\d\d-\d\d)$", rule["reason"])
        assert until, rule
        assert date.fromisoformat(until[1]) >= datetime.now(UTC).date(), rule
        assert rule["vulnerability"], rule


def test_dependabot_knows_everything_that_is_pinned_and_waits_a_week() -> None:
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    assert {each["package-ecosystem"] for each in updates} == {"docker", "github-actions", "npm", "pip", "uv"}
    assert all(each["cooldown"]["default-days"] >= 7 for each in updates)


def test_what_the_workflows_repeat_is_what_the_code_says() -> None:
    models = (WORKFLOWS / "models.yml").read_text()
    ollama = re.search(r"ARG OLLAMA_IMAGE=(\S+)", (ROOT / "service/Dockerfile").read_text())[1]
    assert f" {ollama}\n" in models
    assert f'user.name="{COMMITTER_NAME}"' in models
    kind = re.search(r"sigs.k8s.io/kind@v(\d+\.\d+)\.", (WORKFLOWS / "e2e.yml").read_text())[1]
    assert f"kind {kind}'s own node image" in (ROOT / "local_cluster/kind/cluster.yaml").read_text()
    assert f"user.email={COMMITTER_EMAIL}" in models
    sent = re.findall(r'"event_type": "([\w-]+)"', (ROOT / "argocd/notifications.yaml").read_text())
    received = [load(name)[True]["repository_dispatch"]["types"] for name in ("smoke", "rollback")]
    assert {name for types in received for name in types} == set(sent)
    assert {f"{stage.name.upper()}_URL" for stage in (DEV, PROD)} == set(
        re.findall(r"vars\.(\w+_URL)", (WORKFLOWS / "smoke.yml").read_text())
    )
    assert f"the tag {passed_tag('STAGE', 'COMMIT')}," in (WORKFLOWS / "smoke.yml").read_text()


@pytest.fixture
def runner(network: None, tmp_path: Path) -> Runner:
    need_tool("jq", "jq")
    return Runner(tmp_path, act=go_tool(*ACT), k6=tool("k6"))


@pytest.fixture(scope="module")
def engine() -> Iterator[StandIn]:
    server = StandIn(tokens=["2 + 2 is 4, ", "Paris, ", "blue, ", "cold"]).start()
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
    _, before, head = runner.origin.main
    good = runner.origin.publish(runner.branch, "a", before)
    return good, runner.origin.publish(runner.branch, "b", head)


def prod(runner: Runner) -> Branch:
    return Branch(runner.branch.repo, "prod", runner.branch.keys)


def test_ci_runs_make(runner: Runner) -> None:
    run = runner.run("ci", "pull_request", {"number": 1})
    assert run.succeeded, run.output
    assert "make \n" in run.calls


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
    assert runner.branch.digests(tip) == (BUILT, digest("e"))


def test_an_image_that_is_not_attested_by_this_workflow_is_not_released(runner: Runner) -> None:
    gh = runner.folder / "bin" / "gh"
    gh.write_text('#!/bin/sh\necho "gh $*" >> "$LOG"\ncase "$*" in attestation*) exit 1 ;; esac\n')
    run = runner.run("deliver", "push", {}, "--var", "PUSH_ROLE_ARN=role")
    assert (run.succeeded, run.outcome("publish")) == (False, "failed"), run.output
    assert "gh attestation verify image/manifest.json --repo octo/sluice" in run.calls
    assert git(runner.origin.path, "branch", "--list", "stages/*") == ""


def test_a_manifest_with_another_digest_is_not_released(runner: Runner) -> None:
    docker = runner.folder / "bin" / "docker"
    docker.write_text('#!/bin/sh\necho "another manifest"\n')
    run = runner.run("deliver", "push", {}, "--var", "PUSH_ROLE_ARN=role")
    assert (run.succeeded, run.outcome("publish")) == (False, "failed"), run.output
    assert "image/manifest.json: FAILED" in run.output
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
    config = runner.branch.repo / "config.py"
    config.write_text(config.read_text().replace("slots=8", "slots=7"))
    runner.commit("What dev hasn't tried")
    run = runner.run("promote", "workflow_dispatch", {})
    assert run.succeeded, run.output
    head = f"promote/{tried[:12]}"
    assert f"/octo/sluice/compare/main...{head}?quick_pull=1" in run.output
    approved = json.loads(git(runner.origin.path, "show", f"{head}:delivery/prod.json"))
    assert approved == {"source": tried, "image": digest("b"), "weights": digest("0"), "reverts": ""}
    assert re.search(r'^.*\+ +SLOTS: "8"', run.output, re.MULTILINE)


def test_what_main_approves_is_rendered_from_its_own_commit_and_prod_runs_it(runner: Runner) -> None:
    tried = runner.origin.main[-1]
    config = runner.branch.repo / "config.py"
    config.write_text(config.read_text().replace("slots=8", "slots=7"))
    runner.origin.publish(runner.branch, "b", tried)
    approved = Approved(source=tried, image=digest("b"), weights=digest("0"))
    (runner.branch.repo / "delivery/prod.json").write_text(approved.text())
    merged = runner.commit("Release to prod, and what dev hasn't tried")
    run = runner.run("prod", "push", {}, "--var", "PUSH_ROLE_ARN=role")
    assert run.succeeded, run.output
    branch = prod(runner)
    tip = branch.fetch()
    assert tip
    release = branch.release(tip)
    assert (release.source, release.main, branch.digests(tip)) == (tried, merged, (digest("b"), digest("0")))
    assert git(runner.origin.path, "grep", 'SLOTS: "8"', "stages/prod", "--", "prod/")


def test_a_good_release_is_noted(runner: Runner, served: Served) -> None:
    _, revision = releases(runner)
    run = runner.run("smoke", "repository_dispatch", synced(revision, "b"), "--var", f"DEV_URL={served.url}")
    assert run.succeeded, run.output
    outcomes = [run.outcome(job) for job in ("live", "smoke", "passed", "rollback")]
    assert outcomes == ["succeeded", "succeeded", "succeeded", "skipped"]
    assert git(runner.origin.path, "tag", "--list") == passed_tag("dev", revision)
    assert "wrong count<=2 | passed" in run.output


def test_a_release_that_is_too_busy_to_be_asked_is_neither_noted_as_good_nor_taken_back(runner: Runner) -> None:
    _, revision = releases(runner)
    busy: Answer = (503, {"Retry-After": "0.1"}, {"error": {"code": "saturated"}})
    with stub(lambda request: busy) as server:
        options = ["--var", f"DEV_URL={server.url}", "--env", "SECONDS=2"]
        run = runner.run("smoke", "repository_dispatch", synced(revision, "b"), *options)
    assert run.succeeded, run.output
    outcomes = [run.outcome(job) for job in ("live", "smoke", "passed", "rollback")]
    assert outcomes == ["succeeded", "succeeded", "skipped", "skipped"]
    assert "not judged: busy" in run.output
    assert git(runner.origin.path, "tag", "--list") == ""
    assert runner.origin.tip() == revision


def test_a_release_that_answers_wrongly_is_taken_back_and_its_commit_says_so(
    runner: Runner, served: Served, engine: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, revision = releases(runner)
    monkeypatch.setattr(engine, "tokens", ["banana"])
    run = runner.run("smoke", "repository_dispatch", synced(revision, "b"), "--var", f"DEV_URL={served.url}")
    assert not run.succeeded
    outcomes = [run.outcome(job) for job in ("live", "smoke", "passed", "rollback")]
    assert outcomes == ["succeeded", "failed", "skipped", "succeeded"], run.output
    asked = f"--raw-field stage=dev --raw-field revision={revision}\n"
    assert f"gh workflow run rollback.yml --repo octo/sluice {asked}" in run.calls
    run = runner.run("rollback", "workflow_dispatch", {"inputs": {"stage": "dev", "to": "", "revision": revision}})
    assert run.succeeded, run.output
    assert runner.origin.image() == "a"
    _, before, head = runner.origin.main
    assert runner.origin.log()[0] == f"dev: back to {before[:12]}"
    assert f"gh api --silent repos/octo/sluice/commits/{head}/comments --field body=@" in run.calls
    assert f"dev was rolled back from {head} to {before}.\nSee https://" in run.calls


@pytest.mark.parametrize(
    ("images", "reason", "outcomes"),
    [
        ("b", "set the repository variable DEV_URL to the address of dev", ["succeeded", "failed"]),
        ("a", "dev should run sha256:bbbb", ["failed", "skipped"]),
    ],
)
def test_a_smoke_that_could_not_be_run_takes_nothing_back(
    runner: Runner, images: str, reason: str, outcomes: list[str]
) -> None:
    _, revision = releases(runner)
    run = runner.run("smoke", "repository_dispatch", synced(revision, images))
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
    payload = synced(revision)["client_payload"] | {"reason": "ImagePullBackOff;\nnot `found`"}
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
    assert known["moondream"] == digest("e")
    assert f"/octo/sluice/compare/main...{head}?quick_pull=1" in run.output


def nightly(runner: Runner, url: str, **inputs: str) -> Run:
    """Run the nightly at a rate that fits a second or two."""
    payload = {"inputs": {"rate": "8", "minutes": "0.02", "accept": "false", **inputs}}
    return runner.run("nightly", "workflow_dispatch", payload, "--var", f"DEV_URL={url}")


def have_last_report(runner: Runner, folder: Path, answers_take: float) -> None:
    """Have `gh` find the report of an earlier nightly, whose answers took so many seconds."""
    made = steady(1, seconds=answers_take, rate=8, minutes=0.02, max_tokens=64)
    folder.mkdir()
    (folder / "report.json").write_text(as_json(made))
    gh = runner.folder / "bin" / "gh"
    script = f'case "$*" in *" list "*) echo 7 ;; *" download 7 "*) cp -r {folder} "${{@: -1}}" ;; esac'
    gh.write_text(f'#!/bin/bash\necho "gh $*" >> "$LOG"\n{script}\n')


def test_the_first_nightly_has_nothing_to_compare_with(runner: Runner, served: Served) -> None:
    run = nightly(runner, served.url)
    assert run.succeeded, run.output
    assert "Every target was met." in run.output
    assert "There is no report to compare with." in run.output
    assert "gh run list --workflow nightly.yml --branch main --status success --limit 1" in run.calls


@pytest.mark.parametrize(
    ("answers_took", "inputs", "succeeds", "says"),
    [
        (60.0, {}, True, "Nothing got worse by more than noise."),
        (0.0001, {}, False, "**B is a regression**: whole answer p50, s"),
        (0.0001, {"accept": "true"}, True, "Every target was met."),
        (0.0001, {"rate": "7"}, True, "these runs can't be compared: rate is 8 in A and 7 in B"),
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
