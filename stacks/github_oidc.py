from collections.abc import Sequence

from aws_cdk import CfnOutput, Environment, Stack
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from constructs import Construct

from config import IMAGE_REPOSITORY, PROXY_REPOSITORY, WEIGHTS_REPOSITORY
from context import Context
from stacks.nag import acknowledge, managed_policies

ISSUER = "token.actions.githubusercontent.com"
AUDIENCE = "sts.amazonaws.com"
MAIN = "refs/heads/main"
DEPLOY_ENVIRONMENT = "environment:prod"
# Files in .github/workflows: nothing else that runs on main becomes the role.
PUSHING, DEPLOYING, LOOKING = ("deliver.yml", "models.yml"), ("infra.yml",), ("nightly.yml",)
# Those of the five roles from `cdk bootstrap` that the CDK's command line assumes: there are no image assets, and only
# CloudFormation itself uses cfn-exec-role.
BOOTSTRAP_ROLES = ("deploy-role", "file-publishing-role", "lookup-role")
DRIFT_ACTIONS = (
    "cloudformation:DescribeStackDriftDetectionStatus",
    "cloudformation:DescribeStackResourceDrifts",
    "cloudformation:DescribeStacks",
    "cloudformation:DetectStackDrift",
    "cloudformation:DetectStackResourceDrift",
)


class GitHubTrust(Stack):
    """What workflows of the one GitHub repository may do in this account: push images, deploy, and look for drift."""

    def __init__(
        self, scope: Construct, id_: str, *, env: Environment | None = None, context: Context, protect: bool
    ) -> None:
        super().__init__(
            scope, id_, env=env, termination_protection=protect, description="Sluice: trust in GitHub Actions"
        )
        self._provider = iam.OidcProviderNative(self, "GitHub", url=f"https://{ISSUER}", client_ids=[AUDIENCE])
        self._let_push_images(self._role("PushImages", "sluice-push-images", context, f"ref:{MAIN}", PUSHING))
        self._let_deploy(self._role("Deploy", "sluice-deploy", context, DEPLOY_ENVIRONMENT, DEPLOYING))
        self._let_detect_drift(self._role("Drift", "sluice-drift", context, f"ref:{MAIN}", LOOKING))

    def _let_push_images(self, role: iam.Role) -> None:
        for name in (IMAGE_REPOSITORY, WEIGHTS_REPOSITORY, PROXY_REPOSITORY):
            ecr.Repository.from_repository_name(self, name, name).grant_pull_push(role)
        acknowledge(
            role,
            "IAM5[Resource::*]",
            reason="ecr:GetAuthorizationToken logs in to the account's registry as such: it takes no other resource. "
            "What may be pushed is in the other statement, to the three repositories and nothing else.",
        )

    def _let_detect_drift(self, role: iam.Role) -> None:
        """Let CloudFormation compare stacks with what there is: `cdk drift` asks with its caller's rights.

        SecurityAudit reads how resources are configured, and none of their data.
        """
        role.add_managed_policy(iam.ManagedPolicy.from_aws_managed_policy_name("SecurityAudit"))
        stacks = f"arn:{self.partition}:cloudformation:{self.region}:{self.account}:stack/sluice-*/*"
        role.add_to_policy(iam.PolicyStatement(actions=list(DRIFT_ACTIONS), resources=[stacks]))
        acknowledge(
            role,
            *managed_policies("SecurityAudit"),
            f"IAM5[Resource::{stacks}]",
            reason="Drift detection reads the configuration of every kind of resource in a stack: AWS's policy for "
            "auditors has these rights, and reads no data. The ARN of a stack ends in an id that AWS gives.",
        )

    def _let_deploy(self, role: iam.Role) -> None:
        resources = [self._bootstrap(name) for name in BOOTSTRAP_ROLES]
        role.add_to_policy(iam.PolicyStatement(actions=["sts:AssumeRole"], resources=resources))

    def _role(self, id_: str, name: str, context: Context, subject: str, workflows: Sequence[str]) -> iam.Role:
        """Return a role for main's runs of these workflows whose token has a `sub` that ends in `subject`.

        The `sub` of an environment doesn't say which branch runs there, and that of a branch not which workflow. Since
        January 2026 STS has keys for those claims too: "Available keys for AWS OIDC federation" in
        https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html.
        """
        files = f"{context.github_owner}/{context.github_repository}/.github/workflows"
        claims = {
            "aud": AUDIENCE,
            "sub": subjects(context, subject),
            "repository_id": context.github_repository_id,
            "ref": MAIN,
            "job_workflow_ref": [f"{files}/{each}@{MAIN}" for each in workflows],
        }
        conditions = {"StringEquals": {f"{ISSUER}:{claim}": value for claim, value in claims.items()}}
        provider = self._provider.oidc_provider_arn
        role = iam.Role(self, id_, role_name=name, assumed_by=iam.WebIdentityPrincipal(provider, conditions))
        CfnOutput(self, f"{id_}Role", value=role.role_arn)
        return role

    def _bootstrap(self, role: str) -> str:
        """Return the ARN of one of the roles that `cdk bootstrap` created in this account for this region."""
        qualifier = self.synthesizer.bootstrap_qualifier
        return f"arn:{self.partition}:iam::{self.account}:role/cdk-{qualifier}-{role}-{self.account}-{self.region}"


def subjects(context: Context, subject: str) -> list[str]:
    """Return both forms of a token's `sub`: with names, and with ids too, for repositories created since 2026-07-15."""
    owner, repository = context.github_owner, context.github_repository
    with_ids = f"{owner}@{context.github_owner_id}/{repository}@{context.github_repository_id}"
    return [f"repo:{owner}/{repository}:{subject}", f"repo:{with_ids}:{subject}"]
