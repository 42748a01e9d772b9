from aws_cdk import aws_logs as logs
from constructs import Construct, IConstruct

from config import Stage
from stacks.removal import removal_policy


def log_group(scope: Construct, id_: str, *, stage: Stage, name: str | None = None) -> logs.LogGroup:
    """Return a log group for what a service would otherwise make one itself, which is kept for ever."""
    group = logs.LogGroup(scope, id_, log_group_name=name)
    keep_logs(group, stage=stage)
    return group


def keep_logs(scope: IConstruct, *, stage: Stage) -> None:
    """Keep every log group in `scope` as long as the stage says, and after `cdk destroy` if it keeps its data."""
    for resource in scope.node.find_all():
        if isinstance(resource, logs.CfnLogGroup):
            resource.retention_in_days = 365 if stage.keep_data else 30
            resource.apply_removal_policy(removal_policy(keep=stage.keep_data))
