import json
from typing import cast

from aws_cdk import CfnOutput, Environment, Stack
from aws_cdk import aws_ecr as ecr
from constructs import Construct

from config import IMAGE_REPOSITORY, PROXY_REPOSITORY, WEIGHTS_REPOSITORY
from stacks.removal import removal_policy

# Nodes are replaced far more often than that (stacks/node_pools.py), so every image that runs has been pulled since.
UNUSED_DAYS = 90
ARCHIVED_DAYS = 365


class Registry(Stack):
    """The repositories for the gateway's image, HAProxy's and the models' weights, shared by an account's stages.

    keep_images: they outlive `cdk destroy`. It must be the same whichever stage is being deployed.
    """

    def __init__(
        self, scope: Construct, id_: str, *, env: Environment | None = None, keep_images: bool, protect: bool
    ) -> None:
        super().__init__(scope, id_, env=env, termination_protection=protect, description="Sluice: image repositories")
        self._add_repository("Image", IMAGE_REPOSITORY, keep_images)
        self._add_repository("Weights", WEIGHTS_REPOSITORY, keep_images)
        self._add_repository("Proxy", PROXY_REPOSITORY, keep_images)

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


# Rules by age or count would delete the digest that prod has run for months, and it may have no tag to protect it by.
# Images that aren't pulled, ECR can only archive; an archived image can be restored. The manifests of an index are kept
# as long as the index. aws_ecr.LifecycleRule supports none of this.
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
