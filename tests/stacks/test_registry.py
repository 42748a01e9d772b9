import json

import pytest

from config import DEV, PROD
from stacks.registry import Registry
from tests.support.synth import Json, empty_app, resources_of, synthesise


@pytest.fixture(scope="module")
def repositories() -> dict[str, Json]:
    found = synthesise(DEV).resources("registry", "AWS::ECR::Repository")
    return {each["Properties"]["RepositoryName"]: each for each in found}


def properties(repositories: dict[str, Json]) -> list[Json]:
    return [each["Properties"] for each in repositories.values()]


def test_there_is_a_repository_for_the_image_one_for_the_weights_and_one_for_haproxy(
    repositories: dict[str, Json],
) -> None:
    assert set(repositories) == {"sluice/gateway", "sluice/weights", "sluice/haproxy"}
    assert set(synthesise(DEV).outputs("registry")) == {"ImageRepository", "WeightsRepository", "ProxyRepository"}


def test_a_tag_never_moves(repositories: dict[str, Json]) -> None:
    assert [each["ImageTagMutability"] for each in properties(repositories)] == ["IMMUTABLE"] * 3


def test_images_are_scanned_when_they_are_pushed(repositories: dict[str, Json]) -> None:
    assert [each["ImageScanningConfiguration"] for each in properties(repositories)] == [{"ScanOnPush": True}] * 3


def test_images_are_encrypted_with_a_key_of_kms(repositories: dict[str, Json]) -> None:
    assert [each["EncryptionConfiguration"] for each in properties(repositories)] == [{"EncryptionType": "KMS"}] * 3


def test_nothing_but_what_was_not_pulled_for_long_and_then_archived_for_long_is_deleted(
    repositories: dict[str, Json],
) -> None:
    for each in properties(repositories):
        rules = json.loads(each["LifecyclePolicy"]["LifecyclePolicyText"])["rules"]
        archive, delete = sorted(rules, key=lambda rule: rule["rulePriority"])
        assert archive["selection"]["countType"] == "sinceImagePulled"
        assert archive["selection"]["countNumber"] >= 90
        assert archive["action"] == {"type": "transition", "targetStorageClass": "archive"}
        assert delete["selection"]["storageClass"] == "archive"
        assert delete["selection"]["countType"] == "sinceImageTransitioned"
        assert delete["selection"]["countNumber"] >= 365
        assert delete["action"] == {"type": "expire"}


def test_images_outlive_their_stack_as_prod_says_whichever_stage_is_deployed(repositories: dict[str, Json]) -> None:
    assert PROD.keep_data
    for each in repositories.values():
        assert each["DeletionPolicy"] == "RetainExceptOnCreate"
        assert "EmptyOnDelete" not in each["Properties"]


def test_without_a_stage_that_keeps_them_images_go_with_their_stack() -> None:
    registry = Registry(empty_app(), "registry", keep_images=False, protect=False)
    for each in resources_of(registry, "AWS::ECR::Repository"):
        assert each["DeletionPolicy"] == "Delete"
        assert each["Properties"]["EmptyOnDelete"] is True
