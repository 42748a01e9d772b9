"""The Service `sluice` in front of the fronts, and the Ingress of EKS Auto Mode's load balancer in front of it."""

import json

from cdk8s_plus_36 import k8s
from constructs import Construct

from cdk8s_manifests import pods
from cdk8s_manifests.names import GATEWAY_PORT, NAME, PROXY, STATUS_PORT
from config import LoadBalancer, Stage

HTTP, HTTPS = 80, 443
ALB = "alb.ingress.kubernetes.io"
# What AWS recommends: docs.aws.amazon.com/elasticloadbalancing/latest/application/describe-ssl-policies.html
TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09"


def ingress(scope: Construct, id_: str, *, stage: Stage, host: str) -> None:
    """Create the Service, and with an ALB its Ingress. host: the stage's name, or "" for plain HTTP."""
    port = k8s.ServicePort(name="http", port=HTTP, target_port=k8s.IntOrString.from_number(GATEWAY_PORT))
    spec = k8s.ServiceSpec(selector=pods.labels(PROXY), ports=[port])
    k8s.KubeService(scope, f"{id_}-service", metadata=k8s.ObjectMeta(name=NAME), spec=spec)
    if stage.load_balancer is LoadBalancer.ALB:
        metadata = k8s.ObjectMeta(name=NAME, annotations=annotations(stage, tls=bool(host)))
        k8s.KubeIngress(scope, id_, metadata=metadata, spec=_ingress(host))


def annotations(stage: Stage, *, tls: bool) -> dict[str, str]:
    """Return the annotations for a load balancer's listeners and targets; stacks/ingress_class.py has the rest."""
    target = {
        "load_balancing.algorithm.type": "least_outstanding_requests",
        "deregistration_delay.timeout_seconds": stage.front_drain,
    }
    found = {
        f"{ALB}/target-type": "ip",
        f"{ALB}/target-group-attributes": ",".join(f"{name}={value}" for name, value in target.items()),
        f"{ALB}/healthcheck-port": str(STATUS_PORT),
        f"{ALB}/healthcheck-path": "/readyz",
        f"{ALB}/healthcheck-interval-seconds": "5",
        f"{ALB}/healthcheck-timeout-seconds": "2",
        f"{ALB}/healthy-threshold-count": "2",
        f"{ALB}/unhealthy-threshold-count": "2",
        f"{ALB}/listen-ports": json.dumps([{"HTTP": HTTP}, {"HTTPS": HTTPS}] if tls else [{"HTTP": HTTP}]),
    }
    if stage.allowed_cidrs:
        found[f"{ALB}/inbound-cidrs"] = ",".join(stage.allowed_cidrs)
    if tls:
        found |= {f"{ALB}/ssl-redirect": str(HTTPS), f"{ALB}/ssl-policy": TLS_POLICY}
    return found


def _ingress(host: str) -> k8s.IngressSpec:
    port = k8s.ServiceBackendPort(number=HTTP)
    backend = k8s.IngressBackend(service=k8s.IngressServiceBackend(name=NAME, port=port))
    path = k8s.HttpIngressPath(path="/", path_type="Prefix", backend=backend)
    rule = k8s.IngressRule(host=host or None, http=k8s.HttpIngressRuleValue(paths=[path]))
    tls = [k8s.IngressTls(hosts=[host])] if host else None
    return k8s.IngressSpec(ingress_class_name=NAME, rules=[rule], tls=tls)
