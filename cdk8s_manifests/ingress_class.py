"""The IngressClass of our Ingress and its parameters for EKS Auto Mode, neither of which has a namespace."""

from typing import Any

from cdk8s_plus_36 import k8s
from constructs import Construct

from cdk8s_manifests.custom_object import custom_object
from cdk8s_manifests.names import NAME
from config import Stage

API_GROUP = "eks.amazonaws.com"
# They must outlive the Ingress, whose load balancer can't be removed without them.
KEPT = "argocd.argoproj.io/sync-options", "Delete=false"


def ingress_class(scope: Construct, id_: str, *, stage: Stage, certificate: str) -> None:
    """Create the class and its parameters. certificate: an ARN, or "" for plain HTTP."""
    parameters = k8s.IngressClassParametersReference(api_group=API_GROUP, kind="IngressClassParams", name=NAME)
    spec = k8s.IngressClassSpec(controller=f"{API_GROUP}/alb", parameters=parameters)
    k8s.KubeIngressClass(scope, id_, metadata=k8s.ObjectMeta(name=NAME, annotations=dict([KEPT])), spec=spec)
    params_object = custom_object(
        scope,
        f"{id_}-params",
        api_version=f"{API_GROUP}/v1",
        kind="IngressClassParams",
        name=NAME,
        spec=_params(stage, certificate),
    )
    params_object.metadata.add_annotation(*KEPT)


def _params(stage: Stage, certificate: str) -> dict[str, Any]:
    attributes = {
        "idle_timeout.timeout_seconds": stage.idle_timeout,
        "routing.http.drop_invalid_header_fields.enabled": "true",
    }
    spec: dict[str, Any] = {
        "scheme": "internal" if stage.internal else "internet-facing",
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}},
        "loadBalancerAttributes": [{"key": key, "value": str(value)} for key, value in attributes.items()],
    }
    return spec | ({"certificateARNs": [certificate]} if certificate else {})
