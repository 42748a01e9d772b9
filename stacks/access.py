"""The way to a cluster whose API only its VPC can reach: `make access` (delivery/access.py) starts an instance from it.

Nothing runs, and nothing is paid for, while nobody uses it.
"""

from aws_cdk import Fn
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from config import ACCESS_MINUTES, Stage
from stacks.nag import acknowledge

# EC2 looks the image up when the instance starts, so that it is always the newest. It has Session Manager's agent:
# docs.aws.amazon.com/systems-manager/latest/userguide/ami-preinstalled-agent.html
IMAGE = "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
INSTANCE_TYPE = "t4g.micro"
# All that Session Manager needs of an instance; AmazonSSMManagedInstanceCore could also read every SSM parameter:
# docs.aws.amazon.com/systems-manager/latest/userguide/getting-started-create-iam-instance-profile.html
SESSION_ACTIONS = (
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
)
# Whatever becomes of who started it, the instance ends itself.
USER_DATA = f"#!/bin/sh\nshutdown --poweroff +{ACCESS_MINUTES}\n"


class Access(Construct):
    """A launch template: a small instance in a private subnet, without a key, an open port or a public address."""

    def __init__(self, scope: Construct, id_: str, *, stage: Stage, vpc: ec2.Vpc) -> None:
        super().__init__(scope, id_)
        tags = [{"key": "Name", "value": stage.access_name}]
        ec2.CfnLaunchTemplate(
            self,
            "Template",
            launch_template_name=stage.access_name,
            launch_template_data=ec2.CfnLaunchTemplate.LaunchTemplateDataProperty(
                image_id=IMAGE,
                instance_type=INSTANCE_TYPE,
                iam_instance_profile=ec2.CfnLaunchTemplate.IamInstanceProfileProperty(arn=self._profile()),
                instance_initiated_shutdown_behavior="terminate",
                user_data=Fn.base64(USER_DATA),
                metadata_options=ec2.CfnLaunchTemplate.MetadataOptionsProperty(
                    http_tokens="required", http_put_response_hop_limit=1
                ),
                network_interfaces=[
                    ec2.CfnLaunchTemplate.NetworkInterfaceProperty(
                        device_index=0,
                        subnet_id=vpc.private_subnets[0].subnet_id,
                        groups=[self._group(stage, vpc).security_group_id],
                        associate_public_ip_address=False,
                    )
                ],
                block_device_mappings=[
                    ec2.CfnLaunchTemplate.BlockDeviceMappingProperty(
                        device_name="/dev/xvda",
                        ebs=ec2.CfnLaunchTemplate.EbsProperty(
                            encrypted=True, delete_on_termination=True, volume_type="gp3"
                        ),
                    )
                ],
                tag_specifications=[
                    ec2.CfnLaunchTemplate.TagSpecificationProperty(resource_type=kind, tags=tags)
                    for kind in ("instance", "volume")
                ],
            ),
        )

    def _profile(self) -> str:
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"))
        role.add_to_policy(iam.PolicyStatement(actions=list(SESSION_ACTIONS), resources=["*"]))
        acknowledge(
            role,
            "IAM5[Resource::*]",
            reason="What Session Manager's agent needs to register its instance and to carry sessions: these actions "
            "take no resource. They start no session; that takes ssm:StartSession, which people have.",
        )
        return iam.InstanceProfile(self, "Profile", role=role).instance_profile_arn

    def _group(self, stage: Stage, vpc: ec2.Vpc) -> ec2.SecurityGroup:
        """Return a group that lets nothing in, and HTTPS out: to Session Manager, and to the cluster's API."""
        group = ec2.SecurityGroup(
            self,
            "Group",
            vpc=vpc,
            security_group_name=stage.access_name,
            description=f"Instances of make access STAGE={stage.name}",
            allow_all_outbound=False,
        )
        group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.HTTPS, "Session Manager and the cluster's API")
        return group
