from typing import cast

from aws_cdk import CfnElement, CfnOutput, Duration, RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_eks_v2 as eks
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk.lambda_layer_kubectl_v36 import KubectlV36Layer
from constructs import Construct

from config import Stage
from context import Context
from stacks.logs import keep_logs, log_group
from stacks.nag import acknowledge, managed_policies
from stacks.node_pools import cluster_manifests

# The policies that EKS Auto Mode needs on the cluster's role; aws_eks_v2 attaches them.
AUTO_MODE_POLICIES = (
    "AmazonEKSClusterPolicy",
    "AmazonEKSComputePolicy",
    "AmazonEKSBlockStoragePolicy",
    "AmazonEKSLoadBalancingPolicy",
    "AmazonEKSNetworkingPolicy",
)
KUBECTL_POLICIES = (
    "service-role/AWSLambdaBasicExecutionRole",
    "service-role/AWSLambdaVPCAccessExecutionRole",
    "AmazonEC2ContainerRegistryReadOnly",
)
# How cdk-nag writes a policy that is attached on a condition.
PUBLIC_ECR_POLICY = (
    '{"Fn::If":["CONDITION",{"Fn::Join":["",["arn:",{"Ref":"AWS::Partition"},'
    '":iam::aws:policy/AmazonElasticContainerRegistryPublicReadOnly"]]},{"Ref":"AWS::NoValue"}]}'
)
NODE_POLICIES = ("AmazonEKSWorkerNodeMinimalPolicy", "AmazonEC2ContainerRegistryPullOnly")


class Cluster(Stack):
    """A stage's EKS cluster in Auto Mode, its nodes, and metrics-server.

    The deploying role has no access to the cluster: `cdk deploy` applies objects through the kubectl provider, a Lambda
    inside the VPC.
    """

    def __init__(self, scope: Construct, id_: str, *, stage: Stage, context: Context, vpc: ec2.IVpc) -> None:
        super().__init__(
            scope, id_, termination_protection=stage.deletion_protection, description=f"Sluice: cluster of {stage.name}"
        )
        name = f"sluice-{stage.name}"
        self.cluster = self._cluster(name, stage, vpc)
        for arn in dict.fromkeys(context.admin_arns):
            self.cluster.grant_cluster_admin(f"Admin {arn}", arn)
        nodes = self.cluster.add_manifest("Nodes", *cluster_manifests(stage))
        metrics = eks.CfnAddon(
            self,
            "MetricsServer",
            addon_name="metrics-server",
            cluster_name=self.cluster.cluster_name,
            preserve_on_delete=False,
        )
        metrics.node.add_dependency(nodes)  # it counts as created only once it runs on one
        self._accept_kubectl_provider(stage)
        line = f"aws eks update-kubeconfig --name {name} --region {self.region}"
        CfnOutput(self, "UpdateKubeconfig", value=line)

    def _cluster(self, name: str, stage: Stage, vpc: ec2.IVpc) -> eks.Cluster:
        cluster = eks.Cluster(
            self,
            "Cluster",
            cluster_name=name,
            version=eks.KubernetesVersion.of(stage.kubernetes_version),
            vpc=vpc,
            vpc_subnets=[ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS)],
            service_ipv4_cidr=stage.service_cidr,
            endpoint_access=endpoint_access(stage),
            bootstrap_cluster_creator_admin_permissions=False,
            bootstrap_self_managed_addons=False,  # Auto Mode has its own
            # `system` brings the `default` node class, and starts a node only for pods that tolerate its taint.
            compute=eks.ComputeConfig(node_pools=["system"], node_role=self._node_role()),
            secrets_encryption_key=self._secrets_key(name),
            cluster_logging=list(eks.ClusterLoggingTypes),
            kubectl_provider_options=eks.KubectlProviderOptions(kubectl_layer=KubectlV36Layer(self, "Kubectl")),
        )
        resource = cast(eks.CfnCluster, cluster.node.default_child)
        resource.deletion_protection = stage.deletion_protection
        resource.upgrade_policy = eks.CfnCluster.UpgradePolicyProperty(support_type="STANDARD")
        # EKS writes to the group of this name, and would otherwise create it itself.
        resource.node.add_dependency(log_group(self, "ControlPlaneLogs", stage=stage, name=f"/aws/eks/{name}/cluster"))
        acknowledge(
            cluster.role,
            *managed_policies(*AUTO_MODE_POLICIES),
            reason="The policies that EKS Auto Mode requires, maintained by AWS as the service changes; most of their "
            "statements are limited by condition to what is tagged as this cluster's.",
        )
        return cluster

    def _node_role(self) -> iam.Role:
        """Return a role that lets a node join the cluster and pull images, and nothing else."""
        role = iam.Role(
            self,
            "NodeRole",
            assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"),
            managed_policies=[iam.ManagedPolicy.from_aws_managed_policy_name(name) for name in NODE_POLICIES],
        )
        acknowledge(
            role,
            *managed_policies(*NODE_POLICIES),
            reason="The narrowest policies with which a node of EKS Auto Mode joins its cluster and pulls images: "
            "assume a pod's identity, read from ECR. Pods can't use them: IMDSv2 with one hop.",
        )
        return role

    def _secrets_key(self, name: str) -> kms.Key:
        """Return the key that encrypts the cluster's Secrets; it is deleted with the cluster."""
        return kms.Key(
            self,
            "SecretsKey",
            description=f"Secrets of {name}",
            enable_key_rotation=True,
            removal_policy=RemovalPolicy.DESTROY,
            pending_window=Duration.days(7),
        )

    def _accept_kubectl_provider(self, stage: Stage) -> None:
        """Set the retention of the provider's logs, and acknowledge cdk-nag's findings: the CDK defines it."""
        provider = self.cluster.node.find_child("KubectlProvider")
        keep_logs(provider, stage=stage)
        handler = provider.node.find_child("Handler")
        function = self.get_logical_id(cast(CfnElement, handler.node.default_child))
        public_ecr = self.get_logical_id(cast(CfnElement, handler.node.find_child("HasEcrPublic")))
        acknowledge(
            provider,
            *managed_policies(*KUBECTL_POLICIES),
            f"IAM4[Policy::{PUBLIC_ECR_POLICY.replace('CONDITION', public_ecr)}]",
            reason="The CDK's kubectl provider writes logs, has network interfaces in the VPC and may read charts from "
            "ECR. None of it lets the Lambda change anything but those interfaces.",
        )
        acknowledge(
            provider,
            f"IAM5[Resource::<{function}.Arn>:*]",
            reason="The versions of one function, the provider's own handler, which the CDK's framework invokes.",
        )
        acknowledge(
            provider,
            "L1",
            reason="The CDK chooses the runtime that it has tested its handler with, and raises it in its releases.",
        )


def endpoint_access(stage: Stage) -> eks.EndpointAccess:
    """Return who can reach the cluster's API: the VPC, and the networks that the stage allows."""
    if not stage.api_allowed_cidrs:
        return eks.EndpointAccess.PRIVATE
    return eks.EndpointAccess.PUBLIC_AND_PRIVATE.only_from(*stage.api_allowed_cidrs)
