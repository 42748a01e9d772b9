from aws_cdk import Acknowledgment, Validations
from constructs import IConstruct


def acknowledge(scope: IConstruct, *findings: str, reason: str) -> None:
    """Acknowledge findings of cdk-nag's AwsSolutions, such as `IAM5[Resource::*]`, in a construct and its children."""
    for finding in findings:
        Validations.of(scope).acknowledge(Acknowledgment(id=f"AwsSolutions::AwsSolutions-{finding}", reason=reason))


def managed_policies(*names: str) -> list[str]:
    """Return cdk-nag's findings about these AWS managed policies."""
    return [f"IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/{name}]" for name in names]
