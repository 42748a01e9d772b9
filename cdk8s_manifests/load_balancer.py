"""The Service `sluice` in front of the fronts, and the load balancer of EKS Auto Mode in front of it."""

import json

from cdk8s_plus_36 import k8s
from constructs import Construct

from cdk8s_manifests import pods
from cdk8s_manifests.haproxy_cfg import drain_seconds
from cdk8s_manifests.names import GATEWAY_PORT, NAME, PROXY, STATUS_PORT
from config import LoadBalancer, Stage

HTTP, HTTPS = 80, 443
AWS = "service.beta.kubernetes.io/aws-load-balancer"
ALB = "alb.ingress.kubernetes.io"


def ingress(scope: Construct, id_: str, *, stage: Stage, certificate: str) -> None:
    """Create the Service, and with an ALB its Ingress. certificate: an ARN, or "" for plain HTTP."""
    if stage.load_balancer is LoadBalancer.NLB:
        service = _balanced_service(certificate)
        metadata = k8s.ObjectMeta(name=NAME, annotations=nlb_annotations(stage, certificate))
    else:
        service, metadata = _service([_port(HTTP)]), k8s.ObjectMeta(name=NAME)
    k8s.KubeService(scope, f"{id_}-service", metadata=metadata, spec=service)
    if stage.load_balancer is LoadBalancer.ALB:
        annotations = alb_annotations(stage, certificate)
        metadata = k8s.ObjectMeta(name=NAME, annotations=annotations)
        k8s.KubeIngress(scope, id_, metadata=metadata, spec=_ingress())


def _port(port: int) -> k8s.ServicePort:
    name = {HTTP: "http", HTTPS: "https"}[port]
    return k8s.ServicePort(name=name, port=port, target_port=k8s.IntOrString.from_number(GATEWAY_PORT))


def _service(ports: list[k8s.ServicePort]) -> k8s.ServiceSpec:
    return k8s.ServiceSpec(selector=pods.labels(PROXY), ports=ports)


def _balanced_service(certificate: str) -> k8s.ServiceSpec:
    return k8s.ServiceSpec(
        type="LoadBalancer",
        load_balancer_class="eks.amazonaws.com/nlb",
        allocate_load_balancer_node_ports=False,
        selector=pods.labels(PROXY),
        ports=[_port(HTTP), _port(HTTPS)] if certificate else [_port(HTTP)],
    )


def nlb_annotations(stage: Stage, certificate: str) -> dict[str, str]:
    """Return the annotations of a Network Load Balancer, whose TLS listeners have a fixed idle timeout of 350 s."""
    annotations = {
        f"{AWS}-scheme": "internet-facing",
        f"{AWS}-nlb-target-type": "ip",
        f"{AWS}-attributes": "load_balancing.cross_zone.enabled=true",
        f"{AWS}-listener-attributes.TCP-{HTTP}": f"tcp.idle_timeout.seconds={stage.idle_timeout}",
        f"{AWS}-target-group-attributes": f"deregistration_delay.timeout_seconds={drain_seconds(stage)}",
        f"{AWS}-healthcheck-protocol": "HTTP",
        f"{AWS}-healthcheck-port": str(STATUS_PORT),
        f"{AWS}-healthcheck-path": "/readyz",
        f"{AWS}-healthcheck-interval": "5",
        f"{AWS}-healthcheck-timeout": "2",
        f"{AWS}-healthcheck-healthy-threshold": "2",
        f"{AWS}-healthcheck-unhealthy-threshold": "2",
    }
    if certificate:
        annotations |= {f"{AWS}-ssl-cert": certificate, f"{AWS}-ssl-ports": str(HTTPS)}
    return annotations


def alb_annotations(stage: Stage, certificate: str) -> dict[str, str]:
    """Return the annotations for an Application Load Balancer's listeners and targets; the class has the rest."""
    target = {
        "load_balancing.algorithm.type": "least_outstanding_requests",
        "deregistration_delay.timeout_seconds": drain_seconds(stage),
    }
    annotations = {
        f"{ALB}/target-type": "ip",
        f"{ALB}/target-group-attributes": ",".join(f"{name}={value}" for name, value in target.items()),
        f"{ALB}/healthcheck-port": str(STATUS_PORT),
        f"{ALB}/healthcheck-path": "/readyz",
        f"{ALB}/healthcheck-interval-seconds": "5",
        f"{ALB}/healthcheck-timeout-seconds": "2",
        f"{ALB}/healthy-threshold-count": "2",
        f"{ALB}/unhealthy-threshold-count": "2",
        f"{ALB}/listen-ports": json.dumps([{"HTTP": HTTP}, {"HTTPS": HTTPS}] if certificate else [{"HTTP": HTTP}]),
    }
    if certificate:
        annotations[f"{ALB}/ssl-redirect"] = str(HTTPS)
    return annotations


def _ingress() -> k8s.IngressSpec:
    port = k8s.ServiceBackendPort(number=HTTP)
    backend = k8s.IngressBackend(service=k8s.IngressServiceBackend(name=NAME, port=port))
    path = k8s.HttpIngressPath(path="/", path_type="Prefix", backend=backend)
    rule = k8s.IngressRule(http=k8s.HttpIngressRuleValue(paths=[path]))
    return k8s.IngressSpec(ingress_class_name=NAME, rules=[rule])
