"""The workflows as they are written: linters, permissions, credentials, pins."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from fnmatch import fnmatch
from typing import Any

import pytest
import yaml

from config import IMAGE_REPOSITORY, WEIGHTS_REPOSITORY
from delivery.git import COMMITTER_EMAIL, COMMITTER_NAME
from delivery.github import DEPLOY_KEY, RELEASE, SIGNING_KEY, TEST
from delivery.live import passed_tag
from testbed import ROOT
from tests.support.runner import WORKFLOWS, go_tool, tool

NAMES = ["ci", "deliver", "e2e", "infra", "models", "nightly", "prod", "promote", "rollback", "smoke"]
ROLES = {"PUSH_ROLE_ARN", "DEPLOY_ROLE_ARN", "DRIFT_ROLE_ARN"}
ACTLINT, ACT = ("github.com/rhysd/actionlint/cmd/actionlint", "v1.7.12"), ("github.com/nektos/act", "v0.2.89")


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


def test_every_secret_is_of_an_environment_that_main_alone_may_use() -> None:
    for name, job in jobs():
        used = set(re.findall(r"secrets\.(\w+)", json.dumps(job)))
        expected = {RELEASE: {DEPLOY_KEY, SIGNING_KEY}, TEST: used & {"SMOKE_API_KEY", "NIGHTLY_API_KEY"}}
        assert used == expected.get(job.get("environment", ""), set()), name


def test_variables_which_writers_may_set_say_only_which_role_to_ask_for() -> None:
    for path in WORKFLOWS.iterdir():
        assert set(re.findall(r"\bvars\.(\w+)", path.read_text())) <= ROLES, path.name


def test_what_installs_packages_has_no_credentials() -> None:
    for name, job in jobs():
        said = [step.get("run", "") for step in job.get("steps", [])]
        if not any(re.search(r"\b(make sync|make synth|make$)", command) for command in said):
            continue
        assert {scope for scope, level in job["permissions"].items() if level == "write"} == set(), name
        for step in job["steps"]:
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False, name
        assert job.get("environment") in (None, TEST), name


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
        '--signer-workflow "$GITHUB_REPOSITORY/.github/workflows/$2"',
        "--source-ref refs/heads/main",
        'verify "$IMAGE" deliver.yml "$predicate" --source-digest "$GITHUB_SHA"',
        'verify "${each#*=}" models.yml',
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
    assert f"the tag {passed_tag('STAGE', 'COMMIT')}," in (WORKFLOWS / "smoke.yml").read_text()
