import json
from typing import cast

from aws_cdk import CfnElement, CfnOutput, Duration, Environment, RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_eks_v2 as eks
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import custom_resources as custom
from aws_cdk.lambda_layer_kubectl_v36 import KubectlV36Layer
from constructs import Construct

from config import PLATFORM_POOL, Stage
from context import Context
from stacks.logs import keep_logs, log_group
from stacks.nag import acknowledge, managed_policies
from stacks.node_pools import cluster_manifests
from stacks.pod_logs import PodLogs

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
# The id that the CDK gives to the function of every AwsCustomResource in a stack: its fixed UUID, in Custom::AWS.
SDK_FUNCTION = "AWS679f53fac002430cb0da5b7982bd2287"
NODE_POLICIES = ("AmazonEKSWorkerNodeMinimalPolicy", "AmazonEC2ContainerRegistryPullOnly")


class Cluster(Stack):
    """A stage's EKS cluster in Auto Mode, its nodes, metrics-server, and what ships its pods' logs.

    The deploying role has no access to the cluster: `cdk deploy` applies objects through the kubectl provider, a Lambda
    inside the VPC.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        env: Environment | None = None,
        stage: Stage,
        context: Context,
        vpc: ec2.IVpc,
    ) -> None:
        super().__init__(
            scope,
            id_,
            env=env,
            termination_protection=stage.deletion_protection,
            description=f"Sluice: cluster of {stage.name}",
        )
        name = stage.cluster_name
        self._role = self._node_role()
        self.cluster = self._cluster(name, stage, vpc)
        # Nodes and the kubectl provider have a group that may already; this is for people in the VPC: `make access`,
        # or CloudShell. Who they are, the API asks itself.
        self.cluster.connections.allow_default_port_from(ec2.Peer.ipv4(stage.vpc_cidr), "The API, from the VPC")
        for arn in dict.fromkeys(context.admin_arns):
            self.cluster.grant_cluster_admin(f"Admin {arn}", arn)
        nodes = self._nodes(stage, vpc)
        metrics = eks.CfnAddon(
            self,
            "MetricsServer",
            addon_name="metrics-server",
            cluster_name=self.cluster.cluster_name,
            # Not on the pool `system`, whose taint it tolerates, and which would start two nodes for its replicas.
            configuration_values=json.dumps({"nodeSelector": {"karpenter.sh/nodepool": PLATFORM_POOL}}),
            preserve_on_delete=False,
        )
        metrics.node.add_dependency(nodes)  # it counts as created only once it runs on one
        PodLogs(self, "PodLogs", stage=stage, cluster=self.cluster).node.add_dependency(nodes)
        self._accept_kubectl_provider(stage)
        if stage.deletion_protection:
            self._protect(stage).node.add_dependency(metrics)
        line = f"aws eks update-kubeconfig --name {name} --region {self.region}"
        CfnOutput(self, "UpdateKubeconfig", value=line)

    def _nodes(self, stage: Stage, vpc: ec2.IVpc) -> eks.KubernetesManifest:
        """Return the objects that define the nodes, which the cluster may tag."""
        for statement in tag_rights():
            self.cluster.role.add_to_principal_policy(statement)
        manifest = cluster_manifests(
            stage,
            role=self._role.role_name,
            subnets=[subnet.subnet_id for subnet in vpc.private_subnets],
            group=self.cluster.cluster_security_group_id,
        )
        # overwrite: a deployment that failed may have left objects.
        nodes = eks.KubernetesManifest(
            self, "Nodes", cluster=cast(eks.ICluster, self.cluster), manifest=manifest, overwrite=True
        )
        nodes.node.add_dependency(self.cluster.role)
        return nodes

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
            # `system` stays empty: no pod of ours tolerates its taint. It makes EKS let nodes with this role in.
            compute=eks.ComputeConfig(node_pools=["system"], node_role=self._role),
            secrets_encryption_key=self._secrets_key(name),
            cluster_logging=list(eks.ClusterLoggingTypes),
            kubectl_provider_options=eks.KubectlProviderOptions(kubectl_layer=KubectlV36Layer(self, "Kubectl")),
        )
        resource = cast(eks.CfnCluster, cluster.node.default_child)
        resource.upgrade_policy = eks.CfnCluster.UpgradePolicyProperty(support_type="STANDARD")
        # EKS writes to the group of this name, and would otherwise create it itself.
        resource.node.add_dependency(log_group(self, "ControlPlaneLogs", stage=stage, name=f"/aws/eks/{name}/cluster"))
        acknowledge(
            cluster.role,
            *managed_policies(*AUTO_MODE_POLICIES),
            reason="The policies that EKS Auto Mode requires, maintained by AWS as the service changes; most of their "
            "statements are limited by condition to what is tagged as this cluster's.",
        )
        acknowledge(
            cluster.role,
            "IAM5[Resource::*]",
            reason="What Auto Mode creates has no name before. Each statement is limited by condition to what carries "
            "this cluster's tag.",
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

    def _protect(self, stage: Stage) -> Construct:
        """Return the cluster's deletion protection, which comes last.

        As a property of the cluster it would be there from the start, and if anything after the cluster failed, EKS
        would refuse to delete it and CloudFormation couldn't roll back:
        docs.aws.amazon.com/eks/latest/userguide/deletion-protection.html
        """
        name = self.cluster.cluster_name
        rights = iam.PolicyStatement(actions=["eks:UpdateClusterConfig"], resources=[self.cluster.cluster_arn])
        made = custom.AwsCustomResource(
            self,
            "DeletionProtection",
            on_create=custom.AwsSdkCall(
                service="EKS",
                action="updateClusterConfig",
                parameters={"name": name, "deletionProtection": True},
                physical_resource_id=custom.PhysicalResourceId.of(name),
            ),
            on_delete=custom.AwsSdkCall(
                service="EKS",
                action="updateClusterConfig",
                parameters={"name": name, "deletionProtection": False},
                ignore_error_codes_matching=".*Exception",
            ),
            policy=custom.AwsCustomResourcePolicy.from_statements([rights]),
            install_latest_aws_sdk=False,
            log_group=log_group(self, "DeletionProtectionLogs", stage=stage),
        )
        function = self.node.find_child(SDK_FUNCTION)
        acknowledge(
            function,
            *managed_policies("service-role/AWSLambdaBasicExecutionRole"),
            reason="The CDK's function for calls of AWS's API writes its log, and has the right to one call: to update "
            "this cluster's configuration.",
        )
        acknowledge(
            function,
            "L1",
            reason="The CDK chooses the runtime that it has tested its function with, and raises it in its releases.",
        )
        return made

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


def tag_rights() -> list[iam.PolicyStatement]:
    """Return the cluster's rights to create what carries tags of ours, which the managed policies don't have.

    They are limited to what also carries the tag with the cluster's own name:
    docs.aws.amazon.com/eks/latest/userguide/auto-learn-iam.html#tag-prop
    """
    own = {"StringEquals": {"aws:RequestTag/eks:eks-cluster-name": "${aws:PrincipalTag/eks:eks-cluster-name}"}}
    kinds = {
        ("ec2:CreateFleet", "ec2:RunInstances", "ec2:CreateLaunchTemplate"): (
            "kubernetes-node-class-name",
            "kubernetes-node-pool-name",
        ),
        ("ec2:CreateNetworkInterface",): ("kubernetes-cni-node-name",),
        (
            "elasticloadbalancing:CreateLoadBalancer",
            "elasticloadbalancing:CreateTargetGroup",
            "elasticloadbalancing:CreateListener",
            "elasticloadbalancing:CreateRule",
            "ec2:CreateSecurityGroup",
        ): (),
    }
    return [
        iam.PolicyStatement(
            actions=list(actions),
            resources=["*"],
            conditions=own | ({"StringLike": {f"aws:RequestTag/eks:{key}": "*" for key in keys}} if keys else {}),
        )
        for actions, keys in kinds.items()
    ]


def endpoint_access(stage: Stage) -> eks.EndpointAccess:
    """Return who can reach the cluster's API: the VPC, and the networks that the stage allows."""
    if not stage.api_allowed_cidrs:
        return eks.EndpointAccess.PRIVATE
    return eks.EndpointAccess.PUBLIC_AND_PRIVATE.only_from(*stage.api_allowed_cidrs)
