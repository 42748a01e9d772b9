"""A stage's secrets: what stands in their place until somebody writes them, and who may read them."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from config import DEV, PROD, Stage
from service.keys import Keys
from tests.support.api_keys import SERVED
from tests.support.synth import Json, synthesise

EACH = pytest.mark.parametrize("stage", [DEV, PROD], ids=lambda stage: stage.name)


def secrets(stage: Stage) -> dict[str, Json]:
    found = synthesise(stage).resources("secrets", "AWS::SecretsManager::Secret")
    return {each["Properties"]["Name"]: each for each in found}


@EACH
def test_there_are_the_github_token_and_the_api_keys(stage: Stage) -> None:
    assert set(secrets(stage)) == {f"sluice/{stage.name}/github-token", f"sluice/{stage.name}/api-keys"}


def test_until_there_are_keys_nobody_gets_in(tmp_path: Path) -> None:
    text = secrets(DEV)["sluice/dev/api-keys"]["Properties"]["SecretString"]
    assert tomllib.loads(text) == {}
    file = tmp_path / "keys.toml"
    file.write_text(text)
    Keys(file, SERVED)  # the front starts


def test_prods_secrets_outlive_its_stack() -> None:
    assert {each["DeletionPolicy"] for each in secrets(PROD).values()} == {"RetainExceptOnCreate"}
    assert {each["DeletionPolicy"] for each in secrets(DEV).values()} == {"Delete"}


@EACH
def test_external_secrets_may_read_these_and_nothing_else(stage: Stage) -> None:
    names = {
        name
        for name, each in synthesise(stage).stacks()["secrets"]["Resources"].items()
        if each["Type"] == "AWS::SecretsManager::Secret"
    }
    policy = synthesise(stage).properties("secrets", "AWS::IAM::Policy")["PolicyDocument"]["Statement"]
    for statement in policy:
        assert set(statement["Action"]) == {"secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"}
    resources = [each for statement in policy for each in as_list(statement["Resource"])]
    assert {each["Ref"] for each in resources} == names


def as_list(value: Any) -> list[Json]:
    return value if isinstance(value, list) else [value]


@EACH
def test_only_external_secrets_pods_have_the_role(stage: Stage) -> None:
    identity = synthesise(stage).properties("secrets", "AWS::EKS::PodIdentityAssociation")
    assert (identity["Namespace"], identity["ServiceAccount"]) == ("external-secrets", "external-secrets")
