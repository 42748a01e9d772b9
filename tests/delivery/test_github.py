"""`make github` on a stand-in for GitHub's API, behind a stand-in for its command line that passes requests on."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from context import Context
from delivery import github
from delivery.github import ACTIONS_APP, main
from testbed.tools import need_tool
from tests.support.aws import CONTEXT
from tests.support.repositories import git
from tests.support.stub import Answer, Request, Stub

# curl, not Python: each run of `make github` calls it dozens of times.
GH = r"""#!/bin/bash
if [[ "$1 $2" == "secret set" ]]; then
  [[ "${{*:4}}" == "--env release --repo octo/sluice" ]] || exit 1
  set -- api --method PUT "repos/octo/sluice/environments/$5/secrets/$3" --input -
fi
options=()
while (($#)); do
  case $1 in
    --method) options+=(--request "$2") && shift ;;
    --input) options+=(--data-binary @-) && shift ;;
    repos/* | user*) path=$1 ;;
  esac
  shift
done
answer=$(curl --silent --show-error --write-out '\n%{{http_code}}' "${{options[@]}}" "{url}/$path") || exit 1
status=${{answer##*$'\n'}} body=${{answer%$'\n'*}}
((status < 400)) || {{ echo "gh: $body (HTTP $status)" >&2 && exit 1; }}
printf '%s\n' "$body"
"""


class GitHub:
    """Octo's repository as a new one is: everything that was PUT or POSTed, by path."""

    def __init__(self) -> None:
        self.at: dict[str, Any] = {
            "actions/permissions/workflow": {
                "default_workflow_permissions": "write",
                "can_approve_pull_request_reviews": True,
            },
            "keys": [],
            "rulesets": [],
        }
        self.changes: list[str] = []
        self.secrets: dict[str, str] = {}
        self.refusal = ""
        self._ids = iter(range(1, 1000))

    def answer(self, request: Request) -> Answer:
        path = request.path.partition("?")[0].removeprefix("/repos/octo/sluice/")
        if self.refusal:
            return 403, {}, self.refusal.encode()
        if request.method == "GET":
            found = self.get(path)
            return (404, {}, b"Not Found") if found is None else (200, {}, json.dumps(found).encode())
        self.changes.append(f"{request.method} {path}")
        if "/secrets/" in path:
            self.secrets[path.rpartition("/")[2]] = request.body.decode()
        elif request.method == "DELETE":
            list_, _, id_ = path.rpartition("/")
            self.at[list_] = [each for each in self.at[list_] if str(each["id"]) != id_]
        else:
            self.store(request.method, path, json.loads(request.body))
        return 200, {}, {}

    def get(self, path: str) -> Any:
        """Return what is at a path, or None."""
        if path == "/user":
            return {"id": 7}
        if path == "environments/release/secrets":
            return {"secrets": [{"name": name} for name in self.secrets]}
        if path.endswith("/deployment-branch-policies") and path in self.at:
            return {"branch_policies": self.at[path]}
        if found := re.fullmatch(r"rulesets/(\d+)", path):
            return next(each for each in self.at["rulesets"] if each["id"] == int(found[1]))
        return self.at.get(path)

    def store(self, method: str, path: str, body: dict[str, Any]) -> None:
        if path == "rulesets":  # GitHub adds what wasn't sent
            rules = [{**each, "ruleset_source_type": "Repository"} for each in body["rules"]]
            self.at[path].append({**body, "id": next(self._ids), "rules": rules, "source": "octo/sluice"})
        elif method == "POST":
            self.at.setdefault(path, []).append({**body, "id": next(self._ids)})
        elif found := re.fullmatch(r"rulesets/(\d+)", path):
            ruleset = next(each for each in self.at["rulesets"] if each["id"] == int(found[1]))
            ruleset.update(body)
        elif path.startswith("environments/"):
            people = [{"type": each["type"], "reviewer": {"id": each["id"]}} for each in body.pop("reviewers") or []]
            rules = [{"type": "required_reviewers", "reviewers": people}] if people else []
            self.at[path] = {**body, "protection_rules": rules}
            self.at.setdefault(f"{path}/deployment-branch-policies", [])
        else:
            self.at[path] = body


@pytest.fixture
def hub(programs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    need_tool("curl", "curl")
    hub = GitHub()
    server = Stub(hub.answer).start()
    (tmp_path / "bin").mkdir()
    (tmp_path / "keys").mkdir()
    (tmp_path / "bin/gh").write_text(GH.format(url=server.url))
    (tmp_path / "bin/gh").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setattr(github, "KEYS", tmp_path / "keys")
    monkeypatch.setattr(Context, "from_cdk_json", lambda: Context.read(CONTEXT.get))
    yield hub
    server.stop()


def test_a_new_repository_gets_everything_and_then_nothing_more(
    hub: GitHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out.splitlines()
    assert all(line.startswith("changed: ") for line in said)
    assert {line.removeprefix("changed: ").split(":")[0].split(" '")[0] for line in said} == {
        "Actions",
        "environment release",
        "environment prod",
        "environment test",
        "deploy key",
        "signing key",
        "ruleset",
    }
    changes = list(hub.changes)
    assert main([]) == 0
    assert main(["--check"]) == 0
    assert hub.changes == changes
    assert capsys.readouterr().out == "octo/sluice is as it must be.\n" * 2


def test_main_alone_may_use_the_keys_and_somebody_approves_deployments(hub: GitHub) -> None:
    main([])
    for name in ("release", "prod", "test"):
        policy = hub.at[f"environments/{name}"]["deployment_branch_policy"]
        assert policy == {"protected_branches": False, "custom_branch_policies": True}
        branches = hub.at[f"environments/{name}/deployment-branch-policies"]
        assert [(each["name"], each["type"]) for each in branches] == [("main", "branch")]
    assert hub.at["environments/release"]["protection_rules"] == []
    (rule,) = hub.at["environments/prod"]["protection_rules"]
    assert [each["reviewer"]["id"] for each in rule["reviewers"]] == [7]


def test_the_keys_are_secrets_of_the_environment_and_only_their_public_halves_are_seen(
    hub: GitHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([])
    assert set(hub.secrets) == {"DEPLOY_KEY", "SIGNING_KEY"}
    assert "BEGIN OPENSSH PRIVATE KEY" in hub.secrets["DEPLOY_KEY"]
    assert "BEGIN PGP PRIVATE KEY BLOCK" in hub.secrets["SIGNING_KEY"]
    (key,) = hub.at["keys"]
    assert (key["title"], key["read_only"], key["key"].split()[0]) == ("Sluice releases", False, "ssh-ed25519")
    (file,) = (tmp_path / "keys").iterdir()
    assert "BEGIN PGP PUBLIC KEY BLOCK" in file.read_text()
    said = capsys.readouterr().out
    assert "PRIVATE" not in said
    assert f"commit argocd/keys/{file.name} and merge it" in said


def ruleset(hub: GitHub, name: str) -> Any:
    (found,) = [each for each in hub.at["rulesets"] if each["name"] == name]
    return found


def test_main_changes_by_reviewed_and_tested_pull_requests_and_nobody_bypasses_that(hub: GitHub) -> None:
    main(["--reviews", "2"])
    found = ruleset(hub, "main")
    rules = {each["type"]: each.get("parameters") for each in found["rules"]}
    assert set(rules) == {"deletion", "non_fast_forward", "pull_request", "required_status_checks"}
    assert rules["pull_request"]["required_approving_review_count"] == 2
    assert rules["pull_request"]["dismiss_stale_reviews_on_push"] is True
    assert rules["pull_request"]["require_last_push_approval"] is True
    assert rules["pull_request"]["require_code_owner_review"] is True
    checks = rules["required_status_checks"]["required_status_checks"]
    assert checks == [{"context": "make", "integration_id": ACTIONS_APP}]
    assert (found["bypass_actors"], found["enforcement"]) == ([], "active")
    assert found["conditions"]["ref_name"]["include"] == ["refs/heads/main"]


def test_only_cis_deploy_key_writes_branches_and_tags_and_not_even_it_rewrites_them(hub: GitHub) -> None:
    main([])
    rules = {
        each["name"]: ([rule["type"] for rule in each["rules"]], each["bypass_actors"], each["target"])
        for each in hub.at["rulesets"]
    }
    ci = [{"actor_id": None, "actor_type": "DeployKey", "bypass_mode": "always"}]
    assert rules["stages: written by CI"] == (["creation", "update"], ci, "branch")
    assert rules["stages: history stays"] == (["deletion", "non_fast_forward"], [], "branch")
    assert rules["passed: written by CI"] == (["creation"], ci, "tag")
    assert rules["passed: history stays"] == (["update", "deletion"], [], "tag")


def weaken_bypass(hub: GitHub) -> None:
    ruleset(hub, "main")["bypass_actors"].append(
        {"actor_id": 5, "actor_type": "RepositoryRole", "bypass_mode": "always"}
    )


def weaken_rule(hub: GitHub) -> None:
    ruleset(hub, "stages: history stays")["rules"].pop()


def disable_rules(hub: GitHub) -> None:
    ruleset(hub, "passed: written by CI")["enforcement"] = "disabled"


def spare_a_branch(hub: GitHub) -> None:
    ruleset(hub, "stages: written by CI")["conditions"]["ref_name"]["exclude"].append("refs/heads/stages/prod")


def let_bots_approve(hub: GitHub) -> None:
    hub.at["actions/permissions/workflow"]["can_approve_pull_request_reviews"] = True


def open_environment(hub: GitHub) -> None:
    hub.at["environments/release/deployment-branch-policies"].append({"id": 99, "name": "*", "type": "branch"})


def lose_reviewers(hub: GitHub) -> None:
    hub.at["environments/prod"]["protection_rules"] = []


def lose_secret(hub: GitHub) -> None:
    del hub.secrets["SIGNING_KEY"]


def make_key_read_only(hub: GitHub) -> None:
    hub.at["keys"][0]["read_only"] = True


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (weaken_bypass, "ruleset 'main': other rules, or somebody bypasses them"),
        (weaken_rule, "ruleset 'stages: history stays': other rules, or somebody bypasses them"),
        (disable_rules, "ruleset 'passed: written by CI': other rules, or somebody bypasses them"),
        (spare_a_branch, "ruleset 'stages: written by CI': other rules, or somebody bypasses them"),
        (let_bots_approve, "Actions: workflows may write by default, or approve pull requests"),
        (open_environment, "environment release: * may use it"),
        (lose_reviewers, "environment prod: missing, without reviewers, or open to every branch"),
        (lose_secret, "signing key: argocd/keys has none, or environment release has no secret SIGNING_KEY"),
        (make_key_read_only, "deploy key: Sluice releases may not write, or environment release has no secret"),
    ],
)
def test_what_was_weakened_is_found_and_set_right(
    hub: GitHub, damage: Any, finding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main([])
    damage(hub)
    before = len(hub.changes)
    capsys.readouterr()
    assert main(["--check"]) == 1
    assert capsys.readouterr().out.startswith(f"missing: {finding}")
    assert len(hub.changes) == before
    assert main([]) == 0
    assert capsys.readouterr().out.startswith(f"changed: {finding}")
    assert main(["--check"]) == 0


def test_rules_that_somebody_added_stay(hub: GitHub) -> None:
    main([])
    ruleset(hub, "main")["rules"].append({"type": "required_linear_history"})
    assert main(["--check"]) == 0


def test_an_account_without_the_rights_is_told_githubs_reason(hub: GitHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.refusal = "Must have admin rights to Repository."
    assert main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith("sluice: gh api repos/octo/sluice/actions/permissions/workflow: gh: Must have admin rights")
    assert said.count("\n") == 1


def test_without_githubs_command_line_it_says_so(
    hub: GitHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main([]) == 2
    assert "sluice: gh is missing: install GitHub's command line" in capsys.readouterr().err


def test_the_required_check_is_the_job_that_runs_make() -> None:
    text = git(Path(__file__).parent, "grep", "-h", "-A1", "^jobs:", "--", ":/.github/workflows/ci.yml")
    assert text.splitlines()[1] == "  make:"
