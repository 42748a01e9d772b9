import pytest

from config import ACCESS_MINUTES, DEV, PROD, Stage
from tests.support.synth import Json, synthesise, text

EACH = pytest.mark.parametrize("stage", [DEV, PROD], ids=lambda stage: stage.name)


def template(stage: Stage) -> Json:
    return dict(synthesise(stage).properties("network", "AWS::EC2::LaunchTemplate")["LaunchTemplateData"])


@EACH
def test_nothing_runs_until_somebody_asks_for_it(stage: Stage) -> None:
    kinds = {each["Type"] for each in synthesise(stage).stacks()["network"]["Resources"].values()}
    assert not kinds & {"AWS::EC2::Instance", "AWS::AutoScaling::AutoScalingGroup"}
    found = synthesise(stage).properties("network", "AWS::EC2::LaunchTemplate")
    assert found["LaunchTemplateName"] == stage.access_name == f"sluice-{stage.name}-access"


@EACH
def test_an_instance_is_in_a_private_subnet_without_a_key_or_a_public_address(stage: Stage) -> None:
    (interface,) = template(stage)["NetworkInterfaces"]
    assert "privateSubnet1" in text(interface["SubnetId"])
    assert interface["AssociatePublicIpAddress"] is False
    assert "KeyName" not in template(stage)


@EACH
def test_nothing_gets_into_it_and_only_https_gets_out(stage: Stage) -> None:
    (group,) = synthesise(stage).resources("network", "AWS::EC2::SecurityGroup")
    assert "SecurityGroupIngress" not in group["Properties"]
    (rule,) = group["Properties"]["SecurityGroupEgress"]
    assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 443, 443)


@EACH
def test_its_image_is_the_newest_its_disk_encrypted_and_imdsv2_has_one_hop(stage: Stage) -> None:
    data = template(stage)
    assert data["ImageId"].startswith("resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-")
    assert data["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    (disk,) = data["BlockDeviceMappings"]
    assert (disk["Ebs"]["Encrypted"], disk["Ebs"]["DeleteOnTermination"]) == (True, True)


@EACH
def test_one_that_was_forgotten_ends_itself(stage: Stage) -> None:
    data = template(stage)
    script = data["UserData"]["Fn::Base64"]
    assert script.splitlines() == ["#!/bin/sh", f"shutdown --poweroff +{ACCESS_MINUTES}"]
    assert data["InstanceInitiatedShutdownBehavior"] == "terminate"


@EACH
def test_its_role_carries_sessions_and_nothing_else(stage: Stage) -> None:
    profile = synthesise(stage).properties("network", "AWS::IAM::InstanceProfile")
    (role,) = [each["Ref"] for each in profile["Roles"]]
    policies = [each["Properties"] for each in synthesise(stage).resources("network", "AWS::IAM::Policy")]
    (policy,) = [each for each in policies if {"Ref": role} in each["Roles"]]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert all(action.startswith(("ssmmessages:", "ssm:UpdateInstance")) for action in statement["Action"])
    assert "ManagedPolicyArns" not in synthesise(stage).stacks()["network"]["Resources"][role]["Properties"]
