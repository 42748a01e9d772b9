"""Each failure that `make doctor` looks for is staged in moto, and found with what to do."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import boto3  # type: ignore[import-untyped]
import pytest
from botocore.exceptions import NoCredentialsError  # type: ignore[import-untyped]
from moto import mock_aws
from moto.ec2.models import ec2_backends

from config import C7I_XLARGE, DEV, Node
from context import Context
from delivery.doctor import before
from delivery.doctor.__main__ import main, results
from delivery.doctor.check import Check, Patient
from tests.support.aws import ACCOUNT, CONTEXT, REGION
from tests.support.synth import synthesise

OWNER = Context.read(CONTEXT.get)
VCPUS, ADDRESSES = 26 + before.ACCESS_VCPUS, DEV.nat_gateways


class GitHub(BaseHTTPRequestHandler):
    """GitHub's API, and a resolver."""

    repository: ClassVar[dict[str, Any]] = {"id": 5678, "full_name": "octo/sluice", "owner": {"id": 1234}}
    answers: ClassVar[dict[str, Any]] = {"/repos/octo/sluice": repository, "/repos/Octo/sluice": repository}

    def do_GET(self) -> None:
        answer = self.answers.get(self.path)
        self.send_response(200 if answer else 404)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def github() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), GitHub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class Quotas:
    """moto has no quota that can be changed."""

    def __init__(self, vcpus: float, addresses: float) -> None:
        self._quotas = {before.VCPU_QUOTA: vcpus, before.ADDRESS_QUOTA: addresses}

    def get_service_quota(self, *, ServiceCode: str, QuotaCode: str) -> dict[str, Any]:
        assert ServiceCode == "ec2"
        return {"Quota": {"Value": self._quotas[QuotaCode]}}


@pytest.fixture
def patient(github: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    """Return an account in which a deployment would succeed."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "GH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(before, "public_keys", lambda: {"0123456789ABCDEF": "a key"})
    with mock_aws():
        session = boto3.Session("testing", "testing", region_name=REGION)
        session.client("ssm").put_parameter(Name=before.BOOTSTRAP_PARAMETER, Value="30", Type="String")
        session.client("iam").create_role(RoleName="admin", AssumeRolePolicyDocument="{}")
        yield with_quotas(Patient(stage=DEV, context=OWNER, client=session.client, github=github), VCPUS, ADDRESSES)


def with_quotas(patient: Patient, vcpus: float, addresses: float) -> Patient:
    client, quotas = patient.client, Quotas(vcpus, addresses)
    return replace(patient, client=lambda service: quotas if service == "service-quotas" else client(service))


def found(patient: Patient) -> dict[str, list[str]]:
    """Return the problems by check."""
    return {check.name: problems for check, problems in results(patient, before.CHECKS) if problems}


def test_an_account_in_order_has_no_problem(patient: Patient) -> None:
    assert found(patient) == {}


def test_credentials_of_another_account_are_found_and_nothing_else_is_looked_at(patient: Patient) -> None:
    other = replace(patient, context=replace(OWNER, account="999999999999"))
    assert found(other) == {
        "credentials": [
            f"the credentials are for account {ACCOUNT}, and cdk.json has account=999999999999: use other credentials, "
            "or correct it"
        ]
    }


def test_missing_credentials_are_found(patient: Patient) -> None:
    class Sts:
        def get_caller_identity(self) -> Any:
            raise NoCredentialsError

    [[problem]] = found(replace(patient, client=lambda _: Sts())).values()
    assert problem.startswith("there are no AWS credentials: run aws configure or aws sso login")


def test_an_account_without_a_bootstrap_stack_is_found(patient: Patient) -> None:
    patient.client("ssm").delete_parameter(Name=before.BOOTSTRAP_PARAMETER)
    assert found(patient) == {
        "bootstrap": [
            "the account has no bootstrap stack in eu-central-1: run npx cdk bootstrap -c stage=dev",
        ]
    }


def test_a_bootstrap_stack_that_is_too_old_is_found(patient: Patient) -> None:
    patient.client("ssm").put_parameter(Name=before.BOOTSTRAP_PARAMETER, Value="5", Type="String", Overwrite=True)
    assert found(patient) == {
        "bootstrap": ["the bootstrap stack has version 5, and 6 is needed: run npx cdk bootstrap -c stage=dev"]
    }


def test_the_version_asked_for_is_what_the_templates_ask_for() -> None:
    asked = {each["properties"]["requiresBootstrapStackVersion"] for each in synthesise(DEV).artifacts().values()}
    assert asked == {before.BOOTSTRAP_VERSION}


def test_a_quota_of_vcpus_that_is_too_small_is_found(patient: Patient) -> None:
    [[problem]] = found(with_quotas(patient, VCPUS - 1, 5)).values()
    assert problem.startswith(
        f"the quota is {VCPUS - 1} vCPUs, and the nodes of dev may take {VCPUS}: aws service-quotas "
    )
    assert problem.endswith("--quota-code L-1216C47A --desired-value 28, or lower max_replicas")


def test_elastic_ips_that_others_have_taken_are_counted_and_our_own_are_not(patient: Patient) -> None:
    ec2 = patient.client("ec2")
    for _ in range(5):
        ec2.allocate_address(Domain="vpc")
    full = with_quotas(patient, VCPUS, 5)
    assert found(full) == {
        "quotas": [
            "the quota is 5 Elastic IPs, 5 are taken, and dev needs 1 more: aws service-quotas "
            "request-service-quota-increase --service-code ec2 --quota-code L-0263D0A3 --desired-value 6, or release "
            "those that nothing uses"
        ]
    }
    ours = ec2.describe_addresses()["Addresses"][0]["AllocationId"]
    tags = [{"Key": "stack", "Value": "x"}]
    ec2.create_tags(Resources=[ours], Tags=tags)
    assert "quotas" in found(full)
    # CloudFormation alone may set such a tag, so moto's own is changed.
    ec2_backends[ACCOUNT][REGION].tags[ours]["aws:cloudformation:stack-name"] = "sluice-dev-network"
    assert found(full) == {}


def test_a_region_with_too_few_zones_is_found(patient: Patient) -> None:
    few = replace(patient, stage=replace(DEV, zones=3), client=zoned(patient, ["euc1-az2", "euc1-az3"]))
    assert found(few)["zones"] == ["eu-central-1 has 2 zones, and dev has zones=3: lower it"]


def test_a_zone_without_eks_is_found(patient: Patient) -> None:
    bad = replace(patient, client=zoned(patient, ["use1-az6", "use1-az3"]))
    assert "EKS isn't available in eu-central-1b (use1-az3): use another region" in found(bad)["zones"]


def zoned(patient: Patient, ids: list[str]) -> Any:
    """Return a client whose EC2 has zones with these ids."""
    client = patient.client

    class Ec2:
        def __getattr__(self, name: str) -> Any:
            return getattr(client("ec2"), name)

        def describe_availability_zones(self, **_: Any) -> Any:
            zones = [{"ZoneName": f"eu-central-1{'abc'[i]}", "ZoneId": id_} for i, id_ in enumerate(ids)]
            return {"AvailabilityZones": zones}

    return lambda service: Ec2() if service == "ec2" else client(service)


def test_an_instance_type_that_the_zones_dont_have_is_found(patient: Patient) -> None:
    odd = Node(instance_type="z9.mega", cpus=4, memory_gib=8)
    assert found(replace(patient, stage=replace(DEV, node=odd)))["zones"] == [
        "z9.mega isn't offered in eu-central-1a, eu-central-1b: choose another node in config/stages.py, or region"
    ]
    assert C7I_XLARGE.instance_type not in str(found(patient))


def test_an_identity_provider_that_somebody_else_made_is_found(patient: Patient) -> None:
    patient.client("iam").create_open_id_connect_provider(Url=f"https://{before.ISSUER}", ClientIDList=["sts"])
    [[problem]] = found(patient).values()
    assert problem.endswith("run npx cdk import sluice-github -c stage=dev")


def test_what_a_stage_that_was_taken_down_left_is_found(patient: Patient) -> None:
    patient.client("logs").create_log_group(logGroupName="/aws/eks/sluice-dev/cluster")
    patient.client("logs").create_log_group(logGroupName="/sluice/dev/pods-of-others")
    patient.client("ecr").create_repository(repositoryName="sluice/weights")
    assert found(patient) == {
        "leftovers": [
            "log group /aws/eks/sluice-dev/cluster is left from before: aws logs delete-log-group --log-group-name "
            "/aws/eks/sluice-dev/cluster",
            "repository sluice/weights is left from before: aws ecr delete-repository --repository-name sluice/weights "
            "--force deletes it with its images",
        ]
    }


def test_what_belongs_to_a_stack_that_is_there_is_no_leftover(patient: Patient) -> None:
    template = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    for name in ("sluice-registry", "sluice-github", "sluice-dev-cluster"):
        patient.client("cloudformation").create_stack(StackName=name, TemplateBody=template)
    patient.client("logs").create_log_group(logGroupName="/aws/eks/sluice-dev/cluster")
    patient.client("ecr").create_repository(repositoryName="sluice/weights")
    patient.client("iam").create_open_id_connect_provider(Url=f"https://{before.ISSUER}", ClientIDList=["sts"])
    assert found(patient) == {}


def test_an_administrator_who_doesnt_exist_is_found(patient: Patient) -> None:
    typo = f"arn:aws:iam::{ACCOUNT}:role/team/admim"
    ours = replace(OWNER, admin_arns=(*OWNER.admin_arns, typo, "arn:aws:iam::999999999999:role/theirs"))
    assert found(replace(patient, context=ours)) == {
        "admins": [f"admin_arns has {typo}, which doesn't exist: correct it in cdk.json"]
    }


def test_ids_that_arent_the_repositorys_are_found(patient: Patient) -> None:
    wrong = replace(OWNER, github_repository_id="1", github_owner_id="2")
    advice = "correct it, or no workflow gets a role"
    assert found(replace(patient, context=wrong)) == {
        "github": [
            f"github_repository_id=1 in cdk.json, and the id of octo/sluice is 5678: {advice}",
            f"github_owner_id=2 in cdk.json, and the id of octo/sluice is 1234: {advice}",
        ]
    }


def test_a_name_that_isnt_the_repositorys_to_the_letter_is_found(patient: Patient) -> None:
    assert found(replace(patient, context=replace(OWNER, github_owner="Octo"))) == {
        "github": [
            "cdk.json has Octo/sluice, and GitHub says octo/sluice: correct it, or no workflow gets a role",
        ]
    }


def test_a_repository_without_cis_key_is_found(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(before, "public_keys", dict)
    advice = "run make github, and commit the file that it makes"
    assert found(patient) == {
        "signing key": [f"argocd/keys is empty, so Argo CD would apply no release: {advice}"],
    }


def test_a_repository_that_github_doesnt_show_is_found(patient: Patient) -> None:
    assert found(replace(patient, context=replace(OWNER, github_repository="sluce"))) == {
        "github": ["GitHub doesn't show octo/sluce: correct it in cdk.json, or set GH_TOKEN if it is private"]
    }


def test_a_secret_that_waits_to_be_deleted_is_found(patient: Patient) -> None:
    secrets = patient.client("secretsmanager")
    for name in ("sluice/dev/api-keys", "sluice/prod/api-keys"):
        secrets.create_secret(Name=name, SecretString="x")
        secrets.delete_secret(SecretId=name)
    assert found(patient) == {
        "leftovers": [
            "secret sluice/dev/api-keys is left from before, or waits to be deleted: aws secretsmanager delete-secret "
            "--secret-id sluice/dev/api-keys --force-delete-without-recovery"
        ]
    }


def test_a_domain_without_a_zone_is_found(patient: Patient) -> None:
    ours = with_domain(patient)
    patient.client("route53").create_hosted_zone(Name="llm.example.com.evil.org", CallerReference="x")
    assert found(ours) == {
        "domain": ["llm.example.com has no public zone in this account: see DNS and TLS in docs/operations.md"]
    }
    assert found(with_domain(patient, "Z123")) == {
        "domain": ["hosted_zone_id=Z123 isn't a public zone of llm.example.com in this account: correct it in cdk.json"]
    }


def test_a_zone_that_nobody_delegates_to_is_found(patient: Patient) -> None:
    made = patient.client("route53").create_hosted_zone(Name="llm.example.com", CallerReference="x")
    servers, ours = made["DelegationSet"]["NameServers"], with_domain(patient)
    others = {"Answer": [{"data": "ns.example.net."}]}
    for answer in ({"Status": 3}, others):
        GitHub.answers["/resolve?name=llm.example.com&type=NS"] = answer
        [[problem]] = found(ours).values()
        assert problem.startswith(f"the parent of llm.example.com doesn't delegate to {min(servers)}")
    GitHub.answers["/resolve?name=llm.example.com&type=NS"] = {"Answer": [{"data": f"{servers[0]}."}]}
    assert found(ours) == {}


def with_domain(patient: Patient, zone: str = "") -> Patient:
    context = replace(OWNER, domain="llm.example.com", hosted_zone_id=zone)
    return replace(patient, context=context, resolver=f"{patient.github}/resolve")


def test_a_check_that_cant_look_is_a_problem_and_the_others_go_on(patient: Patient) -> None:
    nobody = replace(patient, github="http://127.0.0.1:9")
    assert found(nobody)["github"][0].startswith("couldn't be looked at: ")


def test_a_stack_that_is_stuck_is_found(patient: Patient) -> None:
    stuck = Check("stacks", before.stacks)
    client = patient.client

    class Stacks:
        def get_paginator(self, _: str) -> Any:
            return self

        def paginate(self) -> Any:
            names = {
                "sluice-dev-cluster": "ROLLBACK_FAILED",
                "sluice-registry": "CREATE_COMPLETE",
                "other": "DELETE_FAILED",
            }
            return [{"Stacks": [{"StackName": name, "StackStatus": status} for name, status in names.items()]}]

    told = replace(patient, client=lambda service: Stacks() if service == "cloudformation" else client(service))
    [(_, problems)] = results(told, (stuck,))
    assert problems == [
        "stack sluice-dev-cluster is ROLLBACK_FAILED: see When a deployment fails half-way in docs/operations.md"
    ]


def test_the_command_prints_a_line_for_each_check_and_fails_if_there_is_a_problem(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("delivery.doctor.__main__.Context.from_cdk_json", lambda: OWNER)
    monkeypatch.setattr("delivery.doctor.__main__.Patient", lambda **_: patient)
    assert main(["--stage", "dev"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"ok       {check.name}" for check in before.CHECKS]
    patient.client("ssm").delete_parameter(Name=before.BOOTSTRAP_PARAMETER)
    assert main(["--stage", "dev"]) == 1
    assert "problem  bootstrap\n    the account has no bootstrap stack" in capsys.readouterr().out


def test_a_stage_that_isnt_for_aws_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--stage", "local"]) == 2
    assert capsys.readouterr().err == "sluice: stage 'local' isn't for AWS: make demo shows it on this machine\n"
