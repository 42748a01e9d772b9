from aws_cdk import CfnOutput, Environment, Fn, Stack
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_iam as iam
from aws_cdk import aws_route53 as route53
from constructs import Construct

from config import Stage
from context import Context
from stacks.nag import acknowledge
from stacks.pod_identity import pod_role


class Domain(Stack):
    """The hosted zone of the owner's domain, which all stages share. Whoever has the parent domain delegates to it."""

    def __init__(
        self, scope: Construct, id_: str, *, env: Environment | None = None, context: Context, protect: bool
    ) -> None:
        super().__init__(
            scope, id_, env=env, termination_protection=protect, description=f"Sluice: zone of {context.domain}"
        )
        self.zone = route53.PublicHostedZone(self, "Zone", zone_name=context.domain)
        CfnOutput(self, "NameServers", value=Fn.join(" ", self.zone.hosted_zone_name_servers or []))


class Edge(Stack):
    """A stage's certificate, and the role by which ExternalDNS points the stage's name at its load balancer.

    zone: of the domain. It must be delegated to when this is deployed: CloudFormation waits until AWS has seen there
    that the name is ours.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        env: Environment | None = None,
        stage: Stage,
        context: Context,
        zone: route53.IHostedZone | None,
        cluster_name: str,
    ) -> None:
        super().__init__(
            scope,
            id_,
            env=env,
            termination_protection=stage.deletion_protection,
            description=f"Sluice: name of {stage.name}",
        )
        zone = zone or route53.PublicHostedZone.from_hosted_zone_attributes(
            self, "Zone", hosted_zone_id=context.hosted_zone_id, zone_name=context.domain
        )
        host = context.host(stage)
        validation = acm.CertificateValidation.from_dns(zone)
        certificate = acm.Certificate(self, "Certificate", domain_name=host, validation=validation)
        self.certificate_arn = certificate.certificate_arn
        role = pod_role(
            self,
            "ExternalDns",
            cluster_name=cluster_name,
            namespace="external-dns",
            service_account="external-dns",
        )
        self._let_write_records(role, zone, host)
        CfnOutput(self, "Address", value=f"https://{host}")

    def _let_write_records(self, role: iam.Role, zone: route53.IHostedZone, host: str) -> None:
        """Allow the stage's name alone, and the TXT records in which ExternalDNS keeps whose it is."""
        names = "route53:ChangeResourceRecordSetsNormalizedRecordNames"
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["route53:ChangeResourceRecordSets"],
                resources=[zone.hosted_zone_arn],
                conditions={"ForAllValues:StringLike": {names: [host, f"*-sluice.{host}"]}},
            )
        )
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["route53:ListResourceRecordSets", "route53:ListTagsForResource"],
                resources=[zone.hosted_zone_arn],
            )
        )
        role.add_to_policy(iam.PolicyStatement(actions=["route53:ListHostedZones"], resources=["*"]))
        acknowledge(
            role,
            "IAM5[Resource::*]",
            reason="route53:ListHostedZones takes no other resource, and tells the names of the account's zones only.",
        )
