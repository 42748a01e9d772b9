from aws_cdk import Environment, Fn, Stack
from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from config import Stage
from stacks.access import Access
from stacks.logs import log_group


class Network(Stack):
    """A stage's VPC: private subnets for nodes, public ones for load balancers and NAT gateways only, and a way in."""

    def __init__(self, scope: Construct, id_: str, *, env: Environment | None = None, stage: Stage) -> None:
        super().__init__(
            scope,
            id_,
            env=env,
            termination_protection=stage.deletion_protection,
            description=f"Sluice: network of {stage.name}",
        )
        self._zones = [Fn.select(index, Fn.get_azs()) for index in range(stage.zones)]
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(stage.vpc_cidr),
            availability_zones=self._zones,
            nat_gateways=stage.nat_gateways,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name="public", subnet_type=ec2.SubnetType.PUBLIC, cidr_mask=24, map_public_ip_on_launch=False
                ),
                ec2.SubnetConfiguration(name="private", subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS),
            ],
            # Nothing uses the default security group, and removing its rules would take a Lambda.
            restrict_default_security_group=False,
        )
        self._log_flows(stage)
        self._add_endpoints()
        Access(self, "Access", stage=stage, vpc=self.vpc)

    @property
    def availability_zones(self) -> list[str]:
        """Return the zones by index: for their names, the CDK would ask AWS at every synth."""
        return self._zones

    def _log_flows(self, stage: Stage) -> None:
        group = log_group(self, "FlowLogs", stage=stage)
        self.vpc.add_flow_log("FlowLog", destination=ec2.FlowLogDestination.to_cloud_watch_logs(group))

    def _add_endpoints(self) -> None:
        """Add the endpoints that pay for themselves.

        S3's is free, and all image layers come from S3, so they avoid the NAT gateway's 4.5 cents a GB. The others
        (ECR, STS, logs) cost 7 dollars a month and zone each and save 3.5 cents a GB: they would need 200 GB a zone,
        but ECR itself sends manifests only.
        """
        self.vpc.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3)
