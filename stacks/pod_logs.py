from pathlib import Path
from string import Template
from typing import Any, cast

import yaml
from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_eks_v2 as eks
from aws_cdk import aws_iam as iam
from constructs import Construct

from config import DAEMON_CPUS, DAEMON_MIB, Stage
from stacks.nag import acknowledge

OBJECTS = Path(__file__).with_name("fluent_bit.yaml")


class PodLogs(Construct):
    """What sends all containers' lines to the stage's log group (stacks/monitoring.py), so that they outlive pods."""

    def __init__(self, scope: Construct, id_: str, *, stage: Stage, cluster: eks.Cluster) -> None:
        super().__init__(scope, id_)
        role = self._role(stage)
        identity = eks.CfnPodIdentityAssociation(
            self,
            "Identity",
            cluster_name=cluster.cluster_name,
            namespace="logging",
            service_account="fluent-bit",
            role_arn=role.role_arn,
        )
        manifest = fluent_bit(stage, region=Stack.of(self).region)
        shipped = eks.KubernetesManifest(
            self, "FluentBit", cluster=cast(eks.ICluster, cluster), manifest=manifest, overwrite=True
        )
        shipped.node.add_dependency(identity)  # pods get their identity when they are created

    def _role(self, stage: Stage) -> iam.Role:
        """Return the role of Fluent Bit's pods, which may write to the one log group."""
        pods = iam.ServicePrincipal("pods.eks.amazonaws.com")
        role = iam.Role(self, "Role", assumed_by=cast(iam.IPrincipal, pods.with_session_tags()))
        group = Stack.of(self).format_arn(
            service="logs",
            resource="log-group",
            resource_name=f"{stage.log_group}:*",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"], resources=[group]
            )
        )
        acknowledge(
            role,
            f"IAM5[Resource::{group}]",
            reason="The streams of the one log group, which are named after the containers whose lines they have.",
        )
        return role


def fluent_bit(stage: Stage, *, region: str) -> list[dict[str, Any]]:
    """Return the objects of fluent_bit.yaml for a stage."""
    values = {"region": region, "group": stage.log_group, "cpus": DAEMON_CPUS, "mib": DAEMON_MIB}
    # safe_substitute leaves ${REGION} and ${LOG_GROUP}, which Fluent Bit takes from its environment
    return list(yaml.safe_load_all(Template(OBJECTS.read_text()).safe_substitute(values)))
