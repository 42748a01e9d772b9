"""`python -m delivery.github`: what the repository on GitHub must have so that only main decides what the stages run.

It is idempotent, and prints what it changes; with --check it changes nothing, and fails if something is missing. It
needs the GitHub command line, logged in as an administrator of the repository.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from command_line import Parser, run, whole
from context import Context
from delivery.signing import KEYS, KeyProblem, create, public_keys, stop_agent

Object = dict[str, Any]
# Environments: of CI's keys, of the role that deploys, and of the API keys for tests. A secret of the repository itself
# can be read by a workflow of any branch.
RELEASE, DEPLOY, TEST = "release", "prod", "test"
ENVIRONMENTS = (RELEASE, DEPLOY, TEST)
DEPLOY_KEY, SIGNING_KEY = "DEPLOY_KEY", "SIGNING_KEY"  # secrets
TITLE = "Sluice releases"  # of the deploy key
ACTIONS_APP = 15368  # GitHub Actions itself: a required check by anybody else doesn't count
ONLY_CI = [{"actor_id": None, "actor_type": "DeployKey", "bypass_mode": "always"}]


class GitHubError(Exception):
    """GitHub refused something; the message is one sentence with its own reason."""


def rulesets(reviews: int) -> list[Object]:
    """Return the rules of branches and tags; a bypass is for a whole ruleset, hence two of some.

    reviews: approvals that a pull request needs. https://docs.github.com/en/rest/repos/rules has the fields.
    """
    review = {
        "required_approving_review_count": reviews,
        "dismiss_stale_reviews_on_push": True,
        "require_last_push_approval": reviews > 0,  # nobody approves what they have pushed to another's pull request
        # Whoever may write may approve, also what they propose from a second account. Where main has a CODEOWNERS, one
        # of those whom it names has to; without that file this changes nothing.
        "require_code_owner_review": reviews > 0,
        "required_review_thread_resolution": False,
    }
    checks = {
        "strict_required_status_checks_policy": False,
        "required_status_checks": [{"context": "make", "integration_id": ACTIONS_APP}],
    }
    stages, passed = "refs/heads/stages/**/*", "refs/tags/passed/**/*"
    reviewed: list[Object] = [
        {"type": "pull_request", "parameters": review},
        {"type": "required_status_checks", "parameters": checks},
    ]
    return [
        _ruleset("main", "branch", "refs/heads/main", [*_rules("deletion", "non_fast_forward"), *reviewed]),
        _ruleset("stages: written by CI", "branch", stages, _rules("creation", "update"), bypass=ONLY_CI),
        _ruleset("stages: history stays", "branch", stages, _rules("deletion", "non_fast_forward")),
        _ruleset("passed: written by CI", "tag", passed, _rules("creation"), bypass=ONLY_CI),
        _ruleset("passed: history stays", "tag", passed, _rules("update", "deletion")),
    ]


def _rules(*types: str) -> list[Object]:
    return [{"type": each} for each in types]


def _ruleset(name: str, target: str, ref: str, rules: list[Object], bypass: list[Object] | None = None) -> Object:
    conditions = {"ref_name": {"include": [ref], "exclude": []}}
    fixed = {"name": name, "target": target, "enforcement": "active"}
    return {**fixed, "conditions": conditions, "rules": rules, "bypass_actors": bypass or []}


def satisfies(found: Any, wanted: Any) -> bool:
    """Return whether GitHub has at least what is wanted, under the same conditions, and nobody else bypasses it.

    GitHub answers with more fields than were sent, and somebody may have added rules.
    """
    if isinstance(wanted, dict):
        exact = all(found.get(name) == wanted[name] for name in ("conditions", "bypass_actors") if name in wanted)
        return exact and all(name in found and satisfies(found[name], value) for name, value in wanted.items())
    if isinstance(wanted, list):
        return all(any(satisfies(each, value) for each in found) for value in wanted)
    return bool(found == wanted)


@dataclass(frozen=True)
class Repository:
    """The repository on GitHub. change: whether to set right what is wrong. It raises GitHubError and KeyProblem."""

    name: str
    change: bool

    def settle(self, reviews: int) -> Iterator[str]:
        """Yield a sentence for each thing that is wrong, or was until now."""
        yield from self._actions()
        for name in ENVIRONMENTS:
            yield from self._environment(name)
        yield from self._deploy_key()
        yield from self._signing_key()
        for wanted in rulesets(reviews):
            yield from self._ruleset(wanted)

    def _actions(self) -> Iterator[str]:
        """A workflow of any branch could approve its own pull request."""
        wanted = {"default_workflow_permissions": "read", "can_approve_pull_request_reviews": False}
        if not satisfies(self._get("actions/permissions/workflow"), wanted):
            self._put("actions/permissions/workflow", wanted)
            yield "Actions: workflows may write by default, or approve pull requests"

    def _environment(self, name: str) -> Iterator[str]:
        found = self._find(f"environments/{name}")
        policy = {"protected_branches": False, "custom_branch_policies": True}
        reviewers = [
            {"type": each["type"], "id": each["reviewer"]["id"]}
            for rule in (found or {}).get("protection_rules", [])
            for each in rule.get("reviewers", [])
        ]
        alone = name == DEPLOY and not reviewers
        if found is None or found["deployment_branch_policy"] != policy or alone:
            if alone and self.change:
                reviewers = [{"type": "User", "id": _gh_json("user")["id"]}]
            self._put(f"environments/{name}", {"deployment_branch_policy": policy, "reviewers": reviewers or None})
            yield f"environment {name}: missing, without reviewers, or open to every branch"
        policies = f"environments/{name}/deployment-branch-policies"
        branches = (self._find(policies) or {}).get("branch_policies", [])
        for each in branches:
            if (each["name"], each.get("type", "branch")) != ("main", "branch"):
                self._call("DELETE", f"{policies}/{each['id']}")
                yield f"environment {name}: {each['name']} may use it"
        if not any((each["name"], each.get("type", "branch")) == ("main", "branch") for each in branches):
            self._call("POST", policies, {"name": "main", "type": "branch"})
            yield f"environment {name}: main may not use it"

    def _deploy_key(self) -> Iterator[str]:
        """The rulesets let it write the stages' branches, and nothing else."""
        keys = [each for each in self._get("keys?per_page=100") if each["title"] == TITLE]
        if len(keys) == 1 and not keys[0]["read_only"] and DEPLOY_KEY in self._secrets():
            return
        if self.change:
            self._make_deploy_key(keys)
        yield f"deploy key: {TITLE} may not write, or environment {RELEASE} has no secret {DEPLOY_KEY}"

    def _make_deploy_key(self, old: list[Object]) -> None:
        for each in old:
            self._call("DELETE", f"keys/{each['id']}")
        with TemporaryDirectory() as folder:
            path = Path(folder) / "key"
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", TITLE, "-f", str(path)]
            subprocess.run(command, check=True)
            public = path.with_suffix(".pub").read_text().strip()
            self._call("POST", "keys", {"title": TITLE, "key": public, "read_only": False})
            self._set_secret(DEPLOY_KEY, path.read_text())

    def _signing_key(self) -> Iterator[str]:
        if public_keys(KEYS) and SIGNING_KEY in self._secrets():
            return
        made = self._make_signing_key() if self.change else ""
        yield f"signing key: argocd/keys has none, or environment {RELEASE} has no secret {SIGNING_KEY}"
        if made:
            yield f"signing key: commit argocd/keys/{made}.asc and merge it, then make deploy for each stage"

    def _make_signing_key(self) -> str:
        with TemporaryDirectory() as folder:
            keys = create(Path(folder))
            (text,) = keys.export().values()
            self._set_secret(SIGNING_KEY, keys.export_private())
            stop_agent(keys.home)
        (KEYS / f"{keys.signer}.asc").write_text(text)
        return keys.signer

    def _ruleset(self, wanted: Object) -> Iterator[str]:
        ours = [each for each in self._get("rulesets?per_page=100") if each["name"] == wanted["name"]]
        found = self._get(f"rulesets/{ours[0]['id']}") if ours else {}
        if satisfies(found, wanted):
            return
        if ours:
            self._put(f"rulesets/{ours[0]['id']}", wanted)
        else:
            self._call("POST", "rulesets", wanted)
        yield f"ruleset {wanted['name']!r}: {'other rules, or somebody bypasses them' if ours else 'missing'}"

    def _secrets(self) -> set[str]:
        found = self._find(f"environments/{RELEASE}/secrets?per_page=100") or {"secrets": []}
        return {each["name"] for each in found["secrets"]}

    def _set_secret(self, name: str, value: str) -> None:
        _gh("secret", "set", name, "--env", RELEASE, "--repo", self.name, stdin=value)

    def _get(self, path: str) -> Any:
        return _gh_json(f"repos/{self.name}/{path}")

    def _find(self, path: str) -> Any:
        """Return what is there, or None."""
        try:
            return self._get(path)
        except GitHubError as problem:
            if "HTTP 404" in str(problem):
                return None
            raise

    def _put(self, path: str, body: Object) -> None:
        self._call("PUT", path, body)

    def _call(self, method: str, path: str, body: Object | None = None) -> None:
        if self.change:
            options = ["--input", "-"] if body is not None else []
            _gh("api", "--silent", "--method", method, f"repos/{self.name}/{path}", *options, stdin=json.dumps(body))


def _gh_json(path: str) -> Any:
    return json.loads(_gh("api", path))


def _gh(*arguments: str, stdin: str = "") -> str:
    try:
        done = subprocess.run(["gh", *arguments], input=stdin, capture_output=True, text=True)
    except FileNotFoundError:
        raise GitHubError("gh is missing: install GitHub's command line, https://cli.github.com, and log in") from None
    if done.returncode:
        said = "; ".join(line.strip() for line in done.stderr.splitlines() if line.strip())
        raise GitHubError(f"gh {' '.join(arguments[:5])}: {said or f'exit code {done.returncode}'}")
    return done.stdout


def settle(options: argparse.Namespace) -> int:
    """Set the repository right, or check it. Raises GitHubError, KeyProblem and ConfigError."""
    context = Context.from_cdk_json()
    repository = Repository(f"{context.github_owner}/{context.github_repository}", change=not options.check)
    wrong = 0
    for sentence in repository.settle(options.reviews):
        print(f"{'missing' if options.check else 'changed'}: {sentence}", flush=True)
        wrong += 1
    if not wrong:
        print(f"{repository.name} is as it must be.")
    return int(options.check and wrong > 0)


def main(arguments: list[str]) -> int:
    """Run the command and return the exit code: with --check, 1 if something is missing."""
    parser = Parser(prog="python -m delivery.github", description="Set GitHub's rules, environments and keys.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if something is missing")
    parser.add_argument("--reviews", type=whole(0, 6), default=1, help="approvals that a change of main needs")
    parser.set_defaults(run=settle)
    return run(parser, arguments, GitHubError, KeyProblem)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
