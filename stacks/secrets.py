from aws_cdk import CfnOutput, Environment, SecretValue, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from config import Stage
from stacks.nag import acknowledge
from stacks.pod_identity import pod_role
from stacks.removal import removal_policy

# Valid keys.toml without a key: until there are keys, nobody gets in.
NO_KEYS = "# python -m service.keys NAME makes an entry\n"


class Secrets(Stack):
    """A stage's secrets in AWS Secrets Manager, and the role by which External Secrets brings them into the cluster.

    A person writes them, also to rotate them: CloudFormation has only what stands in their place until then.
    """

    def __init__(
        self, scope: Construct, id_: str, *, env: Environment | None = None, stage: Stage, cluster_name: str
    ) -> None:
        super().__init__(
            scope,
            id_,
            env=env,
            termination_protection=stage.deletion_protection,
            description=f"Sluice: secrets of {stage.name}",
        )
        role = pod_role(
            self,
            "ExternalSecrets",
            cluster_name=cluster_name,
            namespace="external-secrets",
            service_account="external-secrets",
        )
        self._add_secret("GitHubToken", stage, role, stage.github_token, "no token yet")
        if stage.api_keys_source:
            self._add_secret("ApiKeys", stage, role, stage.api_keys_source, NO_KEYS)

    def _add_secret(self, id_: str, stage: Stage, reader: iam.Role, name: str, text: str) -> None:
        secret = secretsmanager.Secret(
            self,
            id_,
            secret_name=name,
            secret_string_value=SecretValue.unsafe_plain_text(text),  # no secret
            removal_policy=removal_policy(keep=stage.keep_data),
        )
        acknowledge(
            secret,
            "SMG4",
            reason="A person rotates it, with one command: GitHub makes the token, and clients get their keys.",
        )
        reader.add_to_policy(
            iam.PolicyStatement(
                actions=["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"],
                resources=[secret.secret_full_arn or secret.secret_arn],
            )
        )
        CfnOutput(self, f"{id_}Secret", value=name)
