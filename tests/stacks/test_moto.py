"""The CDK's command line against moto: all of a stage but its cluster, from bootstrap to destroy."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import DEV, IMAGE_REPOSITORY, PROXY_REPOSITORY, WEIGHTS_REPOSITORY
from cost.estimate import KMS_KEYS, log_days
from stacks.github_oidc import DEPLOYING, LOOKING, PUSHING
from testbed import ROOT
from tests.support.aws import ACCOUNT, REGION, Deployment, run_moto

# moto's CloudFormation has no EKS: see "What is tested without AWS" in docs/operations.md.
STACKS = ("sluice-registry", "sluice-github", "sluice-dev-network", "sluice-dev-monitoring")
REPOSITORIES = (IMAGE_REPOSITORY, WEIGHTS_REPOSITORY, PROXY_REPOSITORY)
ISSUER = "token.actions.githubusercontent.com"
# What an operator edits in config/stages.py: one more NAT gateway, and no protection before a tear-down.
CHANGED = f"""
import sys
from dataclasses import replace
sys.path.insert(0, {str(ROOT)!r})
import app, config
dev, prod = replace(config.DEV, nat_gateways=2), replace(config.PROD, deletion_protection=False)
config.STAGES.update(dev=dev, prod=prod)
app.main()
"""


@pytest.fixture(scope="module")
def deployed(cdk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("moto")
    with run_moto(folder / "log") as aws:
        deployment = Deployment(aws, folder / "cdk.out")
        deployment.synthesise()
        deployment.cdk("bootstrap", f"aws://{ACCOUNT}/{REGION}")
        deployment.cdk("deploy", "--require-approval=never", *STACKS)
        yield deployment


def test_every_stack_is_complete_and_the_shared_ones_are_protected(deployed: Deployment) -> None:
    assert deployed.stack_names() == set(STACKS)
    assert {deployed.stack(name)["StackStatus"] for name in STACKS} == {"CREATE_COMPLETE"}
    protected = {name for name in STACKS if deployed.stack(name)["EnableTerminationProtection"]}
    assert protected == {"sluice-registry", "sluice-github"}


def test_all_repositories_are_there_and_never_move_a_tag(deployed: Deployment) -> None:
    mutability = {name: repository["imageTagMutability"] for name, repository in deployed.repositories().items()}
    assert mutability == dict.fromkeys(REPOSITORIES, "IMMUTABLE")


def test_the_outputs_name_the_repositories_and_the_roles_for_github(deployed: Deployment) -> None:
    outputs = [output["OutputValue"] for name in STACKS[:2] for output in deployed.stack(name)["Outputs"]]
    registry = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
    roles = f"arn:aws:iam::{ACCOUNT}:role"
    assert set(outputs) == {
        *(f"{registry}/{name}" for name in REPOSITORIES),
        f"{roles}/sluice-push-images",
        f"{roles}/sluice-deploy",
        f"{roles}/sluice-drift",
    }


def test_there_is_one_identity_provider_and_it_is_github_for_sts(deployed: Deployment) -> None:
    iam = deployed.aws.client("iam")
    (provider,) = iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]
    found = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=provider["Arn"])
    assert (found["Url"], found["ClientIDList"]) == (ISSUER, ["sts.amazonaws.com"])


@pytest.mark.parametrize(
    ("role", "subject", "workflows"),
    [
        ("sluice-push-images", "ref:refs/heads/main", PUSHING),
        ("sluice-deploy", "environment:prod", DEPLOYING),
        ("sluice-drift", "ref:refs/heads/main", LOOKING),
    ],
)
def test_each_role_trusts_only_its_part_of_the_repository(
    deployed: Deployment, role: str, subject: str, workflows: tuple[str, ...]
) -> None:
    trust = deployed.trust(role)
    assert trust["Principal"] == {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}"}
    assert (trust["Effect"], trust["Action"]) == ("Allow", "sts:AssumeRoleWithWebIdentity")
    assert trust["Condition"] == {
        "StringEquals": {
            f"{ISSUER}:aud": "sts.amazonaws.com",
            f"{ISSUER}:sub": [f"repo:octo/sluice:{subject}", f"repo:octo@1234/sluice@5678:{subject}"],
            f"{ISSUER}:repository_id": "5678",
            f"{ISSUER}:ref": "refs/heads/main",
            f"{ISSUER}:job_workflow_ref": [
                f"octo/sluice/.github/workflows/{name}@refs/heads/main" for name in workflows
            ],
        }
    }


def test_the_deploying_role_assumes_only_roles_that_the_bootstrap_made(deployed: Deployment) -> None:
    iam = deployed.aws.client("iam")
    (policy,) = iam.list_role_policies(RoleName="sluice-deploy")["PolicyNames"]
    document = iam.get_role_policy(RoleName="sluice-deploy", PolicyName=policy)["PolicyDocument"]
    (statement,) = document["Statement"]
    assert statement["Action"] == "sts:AssumeRole"
    existing = {role["Arn"] for role in iam.list_roles()["Roles"]}
    assert {arn for arn in statement["Resource"] if "/cdk-" in arn} == set(statement["Resource"]) <= existing


def test_the_network_has_the_stages_addresses_zones_and_nat_gateways(deployed: Deployment) -> None:
    ec2 = deployed.aws.client("ec2")
    (vpc,) = deployed.vpcs()
    assert vpc["CidrBlock"] == DEV.vpc_cidr
    here = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    subnets = ec2.describe_subnets(Filters=here)["Subnets"]
    assert len(subnets) == 2 * DEV.zones
    assert len({subnet["AvailabilityZone"] for subnet in subnets}) == DEV.zones
    gateways = ec2.describe_nat_gateways(Filters=here)["NatGateways"]
    assert [gateway["State"] for gateway in gateways] == ["available"] * DEV.nat_gateways
    (endpoint,) = ec2.describe_vpc_endpoints(Filters=here)["VpcEndpoints"]
    assert endpoint["ServiceName"] == f"com.amazonaws.{REGION}.s3"


def test_all_traffic_is_logged_and_the_log_is_kept_for_a_month(deployed: Deployment) -> None:
    (flow,) = deployed.aws.client("ec2").describe_flow_logs()["FlowLogs"]
    assert (flow["ResourceId"], flow["TrafficType"]) == (deployed.vpcs()[0]["VpcId"], "ALL")
    groups = deployed.aws.client("logs").describe_log_groups(logGroupNamePrefix=flow["LogGroupName"])["logGroups"]
    assert [group["retentionInDays"] for group in groups] == [30]


def test_the_cost_table_counts_the_keys_gateways_and_days_of_logs_that_are_synthesised(deployed: Deployment) -> None:
    assert len(deployed.resources("AWS::KMS::Key")) == KMS_KEYS
    assert len(deployed.resources("AWS::EC2::NatGateway")) == DEV.nat_gateways
    assert {group["RetentionInDays"] for group in deployed.resources("AWS::Logs::LogGroup")} == {log_days(DEV)}
    assert {endpoint["VpcEndpointType"] for endpoint in deployed.resources("AWS::EC2::VPCEndpoint")} == {"Gateway"}


def test_a_second_deployment_changes_nothing(deployed: Deployment) -> None:
    said = deployed.cdk("deploy", "--require-approval=never", *STACKS)
    assert said.count("(no changes)") == len(STACKS)


def test_diff_finds_nothing_after_a_deployment(deployed: Deployment) -> None:
    assert "Number of stacks with differences: 0" in deployed.cdk("diff", "--fail", "--method=template", *STACKS)


def test_a_protected_stack_is_not_destroyed(deployed: Deployment) -> None:
    result = deployed.aws.cdk("destroy", "--app", str(deployed.assembly), "--force", "sluice-registry")
    assert result.returncode == 1
    assert "TerminationProtection is enabled" in result.stderr
    assert "sluice-registry" in deployed.stack_names()


@pytest.fixture(scope="module")
def changed(deployed: Deployment) -> Deployment:
    deployment = Deployment(deployed.aws, deployed.assembly.with_name("changed"))
    script = deployed.assembly.with_name("changed.py")
    script.write_text(CHANGED)
    deployment.synthesise("--app", f"{sys.executable} {script}")
    return deployment


def test_a_changed_stage_is_shown_by_diff_and_then_deployed(changed: Deployment) -> None:
    said = changed.cdk("diff", *STACKS)
    assert [line.split()[:2] for line in said.splitlines() if line.startswith(("[+]", "[-]", "[~]"))] == [
        ["[+]", "AWS::EC2::EIP"],
        ["[+]", "AWS::EC2::NatGateway"],
    ]
    changed.cdk("deploy", "--require-approval=never", *STACKS)
    gateways = changed.aws.client("ec2").describe_nat_gateways()["NatGateways"]
    assert [gateway["State"] for gateway in gateways] == ["available"] * 2
    assert not any(changed.stack(name)["EnableTerminationProtection"] for name in STACKS)


def test_destroying_the_stage_leaves_the_shared_stacks_and_no_network(changed: Deployment) -> None:
    changed.cdk("destroy", "--force", "sluice-dev-*")
    assert changed.stack_names() == {"sluice-registry", "sluice-github"}
    assert changed.vpcs() == []
    ec2 = changed.aws.client("ec2")
    assert {gateway["State"] for gateway in ec2.describe_nat_gateways()["NatGateways"]} == {"deleted"}
    assert ec2.describe_addresses()["Addresses"] == []
    assert ec2.describe_flow_logs()["FlowLogs"] == []
    assert changed.aws.client("logs").describe_log_groups()["logGroups"] == []


def test_destroying_the_shared_stacks_leaves_only_the_images(changed: Deployment) -> None:
    changed.cdk("destroy", "--force", "sluice-registry", "sluice-github")
    iam = changed.aws.client("iam")
    assert changed.stack_names() == set()
    assert iam.list_open_id_connect_providers()["OpenIDConnectProviderList"] == []
    assert not [role["RoleName"] for role in iam.list_roles()["Roles"] if role["RoleName"].startswith("sluice-")]
    assert set(changed.repositories()) == set(REPOSITORIES)
