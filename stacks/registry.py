import json
from typing import cast

from aws_cdk import CfnOutput, Stack
from aws_cdk import aws_ecr as ecr
from constructs import Construct

from config import IMAGE_REPOSITORY, WEIGHTS_REPOSITORY
from stacks.removal import removal_policy

# Pods and their nodes are replaced far more often than that (stacks/node_pools.py), so what runs has been pulled since.
UNUSED_DAYS = 90
ARCHIVED_DAYS = 365


class Registry(Stack):
    """The repositories for the gateway's image and the models' weights, shared by every stage of the account.

    keep_images: they outlive `cdk destroy`. It must not depend on the stage that is being deployed.
    """

    def __init__(self, scope: Construct, id_: str, *, keep_images: bool, protect: bool) -> None:
        super().__init__(scope, id_, termination_protection=protect, description="Sluice: image repositories")
        self._add_repository("Image", IMAGE_REPOSITORY, keep_images)
        self._add_repository("Weights", WEIGHTS_REPOSITORY, keep_images)

    def _add_repository(self, id_: str, name: str, keep: bool) -> None:
        repository = ecr.Repository(
            self,
            id_,
            repository_name=name,
            image_tag_mutability=ecr.TagMutability.IMMUTABLE,
            image_scan_on_push=True,
            encryption=ecr.RepositoryEncryption.KMS,
            removal_policy=removal_policy(keep=keep),
            empty_on_delete=None if keep else True,
        )
        resource = cast(ecr.CfnRepository, repository.node.default_child)
        resource.lifecycle_policy = ecr.CfnRepository.LifecyclePolicyProperty(
            lifecycle_policy_text=json.dumps({"rules": LIFECYCLE})
        )
        CfnOutput(self, f"{id_}Repository", value=repository.repository_uri)


# By age or number alone, the digest that prod has run for months would go, and there may be no tag to tell it by. What
# isn't pulled, ECR can only archive; from there an image can be restored. The parts of an index stay while it does.
# aws_ecr.LifecycleRule has none of this.
LIFECYCLE = [
    {
        "rulePriority": 1,
        "description": f"Archive what nothing has pulled for {UNUSED_DAYS} days",
        "selection": {
            "tagStatus": "any",
            "countType": "sinceImagePulled",
            "countUnit": "days",
            "countNumber": UNUSED_DAYS,
        },
        "action": {"type": "transition", "targetStorageClass": "archive"},
    },
    {
        "rulePriority": 2,
        "description": f"Delete what has been in the archive for {ARCHIVED_DAYS} days",
        "selection": {
            "tagStatus": "any",
            "storageClass": "archive",
            "countType": "sinceImageTransitioned",
            "countUnit": "days",
            "countNumber": ARCHIVED_DAYS,
        },
        "action": {"type": "expire"},
    },
]
