"""The IngressClass of a stage's Ingress and its parameters for EKS Auto Mode.

They decide who reaches the load balancer and which certificate it has, so `cdk deploy` applies them, and no branch can.
They outlive the Ingress, whose load balancer can't be removed without them.
"""

from typing import Any

from cdk8s_manifests.names import NAME
from config import LoadBalancer, Stage

API_GROUP = "eks.amazonaws.com"


def ingress_class(stage: Stage, *, certificate_arn: str) -> list[dict[str, Any]]:
    """Return the parameters and the class; certificate_arn: "" for plain HTTP."""
    if stage.load_balancer is LoadBalancer.NONE:
        return []
    parameters = {"apiGroup": API_GROUP, "kind": "IngressClassParams", "name": NAME}
    return [
        {
            "apiVersion": f"{API_GROUP}/v1",
            "kind": "IngressClassParams",
            "metadata": {"name": NAME},
            "spec": _params(stage, certificate_arn),
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {"name": NAME},
            "spec": {"controller": f"{API_GROUP}/alb", "parameters": parameters},
        },
    ]


def _params(stage: Stage, certificate_arn: str) -> dict[str, Any]:
    attributes = {
        "idle_timeout.timeout_seconds": stage.idle_timeout,
        "routing.http.drop_invalid_header_fields.enabled": "true",
    }
    spec: dict[str, Any] = {
        "scheme": "internal" if stage.internal else "internet-facing",
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}},
        "loadBalancerAttributes": [{"key": key, "value": str(value)} for key, value in attributes.items()],
        "tags": [{"key": key, "value": value} for key, value in stage.tags.items()],
    }
    return spec | ({"certificateARNs": [certificate_arn]} if certificate_arn else {})
