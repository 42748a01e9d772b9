"""Who may become which role: IAM's decision on the tokens that GitHub really sends, from the synthesised policies."""

import re
from typing import Any

import pytest

from config import DEV
from stacks.github_oidc import DEPLOYING, LOOKING, PUSHING
from testbed import ROOT
from tests.support.aws import ACCOUNT, REGION
from tests.support.synth import Json, synthesise, text

ISSUER = "token.actions.githubusercontent.com"
NAMES, IDS = "octo/sluice", "octo@1234/sluice@5678"


def token(subject: str, repository: str = NAMES, /, **changes: str) -> Json:
    """Return a token's claims, as GitHub sends them to a job of octo/sluice on main."""
    workflow = "infra" if subject.startswith("environment:") else "deliver"
    claims = {
        "iss": f"https://{ISSUER}",
        "aud": "sts.amazonaws.com",
        "sub": f"repo:{repository}:{subject}",
        "repository": "octo/sluice",
        "repository_id": "5678",
        "repository_owner": "octo",
        "repository_owner_id": "1234",
        "actor": "ann",
        "ref": "refs/heads/main",
        "job_workflow_ref": f"octo/sluice/.github/workflows/{workflow}.yml@refs/heads/main",
    }
    return {**claims, **changes}


def role(name: str) -> Json:
    found = synthesise(DEV).resources("github", "AWS::IAM::Role")
    (properties,) = [each["Properties"] for each in found if each["Properties"]["RoleName"] == name]
    return dict(properties)


def assumes(name: str, claims: Json) -> bool:
    """Return whether STS lets a token with these claims become the role."""
    statements = role(name)["AssumeRolePolicyDocument"]["Statement"]
    return any(allows(statement, claims) for statement in statements)


def allows(statement: Json, claims: Json) -> bool:
    """Return whether every condition holds: a key that isn't in the token fails, as does each operator but one."""
    assert statement["Effect"] == "Allow"
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert set(statement["Condition"]) == {"StringEquals"}
    return all(
        claims.get(key.removeprefix(f"{ISSUER}:")) in as_list(wanted)
        for key, wanted in statement["Condition"]["StringEquals"].items()
    )


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(name: str) -> list[Json]:
    """Return what the role's own policy allows."""
    stack = synthesise(DEV).stacks()["github"]["Resources"]
    for each in stack.values():
        if each["Type"] == "AWS::IAM::Policy":
            (owner,) = each["Properties"]["Roles"]
            if stack[owner["Ref"]]["Properties"].get("RoleName") == name:
                return list(each["Properties"]["PolicyDocument"]["Statement"])
    raise AssertionError(f"{name} has no policy")


MAIN, PROD = "ref:refs/heads/main", "environment:prod"
DELIVER, INFRA = (f"octo/sluice/.github/workflows/{each}.yml" for each in ("deliver", "infra"))
REFUSED = {
    "another branch": token("ref:refs/heads/feature"),
    "a branch whose name begins the same": token("ref:refs/heads/main2"),
    "a tag called main": token("ref:refs/tags/main"),
    "a pull request": token("pull_request"),
    "another environment": token("environment:dev"),
    "an environment of other case": token("environment:Prod"),
    "a fork": token(MAIN, "evil/sluice", repository="evil/sluice", repository_id="999", repository_owner_id="666"),
    "a fork's environment": token(PROD, "evil/sluice", repository_id="999", repository_owner_id="666"),
    "another repository of the owner": token(MAIN, "octo/other", repository="octo/other", repository_id="777"),
    "a new repository of the old name": token(MAIN, repository_id="999"),
    "a new repository of the old name, with ids": token(MAIN, "octo@1234/sluice@999", repository_id="999"),
    "a new owner of the old name": token(MAIN, "octo@666/sluice@5678", repository_owner_id="666"),
    "a new owner's environment": token(PROD, "octo@666/sluice@999", repository_id="999", repository_owner_id="666"),
    "a token for another audience": token(MAIN, aud="https://github.com/octo"),
    "a token without a repository id": {k: v for k, v in token(MAIN).items() if k != "repository_id"},
    "a token without a subject": {k: v for k, v in token(MAIN).items() if k != "sub"},
    "a subject with a wildcard": token("*"),
    "the environment from another branch": token(PROD, ref="refs/heads/feature"),
    "the environment in another branch's workflow": token(PROD, job_workflow_ref=f"{INFRA}@refs/heads/feature"),
    "the environment in another workflow": token(PROD, job_workflow_ref=f"{DELIVER}@refs/heads/main"),
    "main in another workflow": token(MAIN, job_workflow_ref="octo/sluice/.github/workflows/ci.yml@refs/heads/main"),
    "main in a workflow of another repository": token(MAIN, job_workflow_ref=f"evil/{DELIVER}@refs/heads/main"),
    "a token without a workflow": {k: v for k, v in token(PROD).items() if k != "job_workflow_ref"},
    "a token without a branch": {k: v for k, v in token(PROD).items() if k != "ref"},
}


@pytest.mark.parametrize("repository", [NAMES, IDS], ids=["names", "names and ids"])
def test_the_main_branch_pushes_images_and_the_environment_prod_deploys(repository: str) -> None:
    assert assumes("sluice-push-images", token(MAIN, repository))
    assert assumes("sluice-deploy", token(PROD, repository))


def test_the_nightly_looks_for_drift_and_no_other_workflow_does() -> None:
    nightly = "octo/sluice/.github/workflows/nightly.yml@refs/heads/main"
    assert assumes("sluice-drift", token(MAIN, job_workflow_ref=nightly))
    assert not assumes("sluice-drift", token(MAIN))
    assert not assumes("sluice-push-images", token(MAIN, job_workflow_ref=nightly))


def test_the_workflow_for_models_pushes_images_too() -> None:
    models = "octo/sluice/.github/workflows/models.yml@refs/heads/main"
    assert assumes("sluice-push-images", token(MAIN, job_workflow_ref=models))


def test_the_trust_names_the_workflows_that_become_a_role() -> None:
    assuming: dict[str, set[str]] = {}
    for path in (ROOT / ".github/workflows").iterdir():
        for variable in re.findall(r"role-to-assume: \$\{\{ vars\.(\w+) \}\}", path.read_text()):
            assuming.setdefault(variable, set()).add(path.name)
    assert assuming == {
        "PUSH_ROLE_ARN": set(PUSHING),
        "DEPLOY_ROLE_ARN": set(DEPLOYING),
        "DRIFT_ROLE_ARN": set(LOOKING),
    }


@pytest.mark.parametrize("repository", [NAMES, IDS], ids=["names", "names and ids"])
def test_neither_may_do_what_is_the_others(repository: str) -> None:
    assert not assumes("sluice-push-images", token(PROD, repository))
    assert not assumes("sluice-deploy", token(MAIN, repository))


@pytest.mark.parametrize("claims", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("name", ["sluice-push-images", "sluice-drift", "sluice-deploy"])
def test_everybody_else_is_refused(name: str, claims: Json) -> None:
    assert not assumes(name, claims)


def test_only_tokens_of_github_for_sts_are_looked_at() -> None:
    provider = synthesise(DEV).properties("github", "AWS::IAM::OIDCProvider")
    assert provider == {"Url": f"https://{ISSUER}", "ClientIdList": ["sts.amazonaws.com"]}
    (name,) = [name for stack, name, each in synthesise(DEV).everything() if each["Type"] == "AWS::IAM::OIDCProvider"]
    for each in ("sluice-push-images", "sluice-drift", "sluice-deploy"):
        (statement,) = role(each)["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Federated": {"Ref": name}}


def test_trust_has_no_wildcard() -> None:
    for each in ("sluice-push-images", "sluice-drift", "sluice-deploy"):
        assert "*" not in str(role(each)["AssumeRolePolicyDocument"])


def test_the_push_role_pushes_to_the_three_repositories_and_does_nothing_else() -> None:
    login, push = sorted(statements("sluice-push-images"), key=lambda each: len(as_list(each["Action"])))
    assert (login["Action"], login["Resource"]) == ("ecr:GetAuthorizationToken", "*")
    prefix = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository"
    names = ("gateway", "haproxy", "weights")
    assert [text(each) for each in push["Resource"]] == [f"{prefix}/sluice/{name}" for name in names]
    assert set(push["Action"]) == {
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:CompleteLayerUpload",
        "ecr:GetDownloadUrlForLayer",
        "ecr:InitiateLayerUpload",
        "ecr:PutImage",
        "ecr:UploadLayerPart",
    }


def test_the_deploy_role_may_become_the_cdks_own_roles_of_this_account_and_region_and_nothing_else() -> None:
    (statement,) = statements("sluice-deploy")
    place = f"{ACCOUNT}-{REGION}"
    roles = f"arn:aws:iam::{ACCOUNT}:role/cdk-hnb659fds"
    assert statement["Action"] == "sts:AssumeRole"
    assert [text(each) for each in statement["Resource"]] == [
        f"{roles}-{name}-{place}" for name in ("deploy-role", "file-publishing-role", "lookup-role")
    ]


def test_the_drift_role_reads_configurations_and_compares_our_stacks() -> None:
    (statement,) = statements("sluice-drift")
    assert all(
        action.startswith(("cloudformation:Describe", "cloudformation:Detect")) for action in statement["Action"]
    )
    stacks = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/sluice-*/*"
    assert text(statement["Resource"]) == stacks
    assert [text(each) for each in role("sluice-drift")["ManagedPolicyArns"]] == [
        "arn:<AWS::Partition>:iam::aws:policy/SecurityAudit"
    ]


def test_the_roles_have_no_rights_besides_and_their_arns_are_outputs() -> None:
    for each in ("sluice-push-images", "sluice-deploy"):
        assert not {"ManagedPolicyArns", "Policies"} & set(role(each))
    assert set(synthesise(DEV).outputs("github")) == {"PushImagesRole", "DeployRole", "DriftRole"}
