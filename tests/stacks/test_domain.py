"""A stage's name: its zone, its certificate, and who may write its records."""

from typing import Any

import pytest

from config import DEV, PROD, Stage
from tests.support.synth import NAMED, Json, synthesise, text

EACH = pytest.mark.parametrize("stage", [DEV, PROD], ids=lambda stage: stage.name)
ZONE = "Z0123456789ABC"


def policy(stage: Stage, **context: str) -> list[Json]:
    """Return the statements of ExternalDNS's role."""
    statements: list[Json] = synthesise(stage, **NAMED, **context).properties("edge", "AWS::IAM::Policy")[
        "PolicyDocument"
    ]["Statement"]
    return statements


@EACH
def test_without_a_domain_there_is_no_zone_and_no_certificate(stage: Stage) -> None:
    assert not {"domain", "edge"} & set(synthesise(stage).stacks())


@EACH
def test_the_stages_share_the_domains_zone_and_its_name_servers_are_told(stage: Stage) -> None:
    assembly = synthesise(stage, **NAMED)
    assert assembly.properties("domain", "AWS::Route53::HostedZone")["Name"] == "llm.example.com."
    assert set(assembly.outputs("domain")) >= {"NameServers"}
    assert assembly.stacks()["domain"] == synthesise(DEV, **NAMED).stacks()["domain"]


def test_a_zone_that_is_there_is_used() -> None:
    assembly = synthesise(DEV, **NAMED, hosted_zone_id=ZONE)
    assert "domain" not in assembly.stacks()
    (validation,) = assembly.properties("edge", "AWS::CertificateManager::Certificate")["DomainValidationOptions"]
    assert validation["HostedZoneId"] == ZONE


@pytest.mark.parametrize(("stage", "host"), [(DEV, "dev.llm.example.com"), (PROD, "llm.example.com")])
def test_the_certificate_is_of_the_stages_name_and_validates_itself(stage: Stage, host: str) -> None:
    certificate = synthesise(stage, **NAMED).properties("edge", "AWS::CertificateManager::Certificate")
    assert certificate["DomainName"] == host
    assert certificate["ValidationMethod"] == "DNS"
    assert certificate["DomainValidationOptions"][0]["HostedZoneId"]
    assert synthesise(stage, **NAMED).outputs("edge")["Address"] == f"https://{host}"


@pytest.mark.parametrize(("stage", "host"), [(DEV, "dev.llm.example.com"), (PROD, "llm.example.com")])
def test_external_dns_may_write_the_stages_name_only(stage: Stage, host: str) -> None:
    (write,) = [each for each in policy(stage, hosted_zone_id=ZONE) if each["Action"] == CHANGE]
    assert text(write["Resource"]).endswith(f":route53:::hostedzone/{ZONE}")
    (names,) = write["Condition"]["ForAllValues:StringLike"].values()
    assert names == [host, f"*-sluice.{host}"]


CHANGE = "route53:ChangeResourceRecordSets"


@EACH
def test_only_external_dns_pods_have_the_role(stage: Stage) -> None:
    identity: Any = synthesise(stage, **NAMED).properties("edge", "AWS::EKS::PodIdentityAssociation")
    assert (identity["Namespace"], identity["ServiceAccount"]) == ("external-dns", "external-dns")
    trust = synthesise(stage, **NAMED).properties("edge", "AWS::IAM::Role")["AssumeRolePolicyDocument"]["Statement"]
    assert {each["Principal"]["Service"] for each in trust} == {"pods.eks.amazonaws.com"}
