from aws_cdk import aws_eks as eks
from aws_cdk import aws_iam as iam
from constructs import Construct


def pod_role(scope: Construct, id_: str, *, cluster_name: str, namespace: str, service_account: str) -> iam.Role:
    """Return a role that pods of one service account have: EKS Auto Mode's agent gives it to those that start later."""
    principal = iam.ServicePrincipal("pods.eks.amazonaws.com").with_session_tags()
    role = iam.Role(scope, f"{id_}Role", assumed_by=principal)
    eks.CfnPodIdentityAssociation(
        scope,
        f"{id_}Identity",
        cluster_name=cluster_name,
        namespace=namespace,
        service_account=service_account,
        role_arn=role.role_arn,
    )
    return role
