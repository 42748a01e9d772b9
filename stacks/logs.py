from aws_cdk import aws_logs as logs
from constructs import Construct, IConstruct

from config import Stage
from stacks.removal import removal_policy


def log_group(scope: Construct, id_: str, *, stage: Stage, name: str | None = None) -> logs.LogGroup:
    """Return a log group that a service would otherwise create itself, with no end to its retention."""
    group = logs.LogGroup(scope, id_, log_group_name=name)
    keep_logs(group, stage=stage)
    return group


def keep_logs(scope: IConstruct, *, stage: Stage) -> None:
    """Set the retention of every log group in `scope`; they outlive `cdk destroy` if the stage keeps its data."""
    for resource in scope.node.find_all():
        if isinstance(resource, logs.CfnLogGroup):
            resource.retention_in_days = 365 if stage.keep_data else 30
            resource.apply_removal_policy(removal_policy(keep=stage.keep_data))
