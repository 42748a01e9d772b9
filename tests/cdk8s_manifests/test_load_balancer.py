import json
from dataclasses import replace
from typing import Any

import pytest

from cdk8s_manifests.haproxy_cfg import drain_seconds
from config import DEV, LOCAL, PROD, Stage
from tests.support.rendered import CONTEXT, Object, container, find, pod

NLB = "service.beta.kubernetes.io/aws-load-balancer"
ALB = "alb.ingress.kubernetes.io"
PLAIN = replace(CONTEXT, domain="", certificate_arn="")


def pairs(text: str) -> dict[str, str]:
    """Return the attributes that an annotation lists."""
    return dict(pair.split("=") for pair in text.split(","))


def annotations(obj: Object) -> Any:
    return obj["metadata"]["annotations"]


@pytest.mark.parametrize("stage", [LOCAL, DEV, PROD], ids=lambda stage: stage.name)
def test_clients_reach_the_fronts_on_port_80(stage: Stage) -> None:
    spec = find(stage, "Service", "sluice")["spec"]
    ports = {(port["port"], port["targetPort"]) for port in spec["ports"]}
    assert (80, 5000) in ports
    assert {"name": "http", "containerPort": 5000} in container(stage, "proxy", "front")["ports"]


def test_without_a_load_balancer_the_service_is_the_clusters_own() -> None:
    for stage in (LOCAL, PROD):
        assert "type" not in find(stage, "Service", "sluice")["spec"]  # ClusterIP


def test_a_network_load_balancer_is_of_auto_mode_and_goes_to_pods() -> None:
    service = find(DEV, "Service", "sluice", PLAIN)
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["spec"]["loadBalancerClass"] == "eks.amazonaws.com/nlb"
    assert annotations(service)[f"{NLB}-scheme"] == "internet-facing"
    assert annotations(service)[f"{NLB}-nlb-target-type"] == "ip"
    idle = pairs(annotations(service)[f"{NLB}-listener-attributes.TCP-80"])
    assert idle == {"tcp.idle_timeout.seconds": str(DEV.idle_timeout)}
    assert [port["port"] for port in service["spec"]["ports"]] == [80]
    assert f"{NLB}-ssl-cert" not in annotations(service)


def test_a_network_load_balancer_ends_tls_where_there_is_a_certificate() -> None:
    service = find(DEV, "Service", "sluice")
    assert annotations(service)[f"{NLB}-ssl-cert"] == CONTEXT.certificate_arn
    assert annotations(service)[f"{NLB}-ssl-ports"] == "443"
    assert [(port["port"], port["targetPort"]) for port in service["spec"]["ports"]] == [(80, 5000), (443, 5000)]
    assert DEV.idle_timeout < 350  # which is fixed for a TLS listener


def test_an_application_load_balancer_is_of_auto_mode_and_goes_to_pods() -> None:
    ingress = find(PROD, "Ingress", "sluice")
    assert ingress["spec"]["ingressClassName"] == "sluice"
    [rule] = ingress["spec"]["rules"]
    [path] = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": "sluice", "port": {"number": 80}}
    assert annotations(ingress)[f"{ALB}/target-type"] == "ip"
    attributes = pairs(annotations(ingress)[f"{ALB}/target-group-attributes"])
    assert attributes["load_balancing.algorithm.type"] == "least_outstanding_requests"
    spec = find(PROD, "IngressClass", "sluice")["spec"]
    assert spec["controller"] == "eks.amazonaws.com/alb"
    assert spec["parameters"] == {"apiGroup": "eks.amazonaws.com", "kind": "IngressClassParams", "name": "sluice"}


def test_an_application_load_balancer_waits_longer_than_what_is_behind_it() -> None:
    params = find(PROD, "IngressClassParams", "sluice")["spec"]
    attributes = {each["key"]: each["value"] for each in params["loadBalancerAttributes"]}
    assert attributes["idle_timeout.timeout_seconds"] == str(PROD.idle_timeout)


@pytest.mark.parametrize("kind", ["IngressClass", "IngressClassParams"])
def test_what_removes_the_load_balancer_outlives_its_ingress(kind: str) -> None:
    assert annotations(find(PROD, kind, "sluice"))["argocd.argoproj.io/sync-options"] == "Delete=false"


def test_only_our_namespace_may_use_our_load_balancer() -> None:
    selector = find(PROD, "IngressClassParams", "sluice")["spec"]["namespaceSelector"]
    assert selector == {"matchLabels": {"kubernetes.io/metadata.name": PROD.namespace}}


def test_an_application_load_balancer_speaks_tls_where_there_is_a_certificate() -> None:
    assert find(PROD, "IngressClassParams", "sluice")["spec"]["certificateARNs"] == [CONTEXT.certificate_arn]
    ingress = annotations(find(PROD, "Ingress", "sluice"))
    assert json.loads(ingress[f"{ALB}/listen-ports"]) == [{"HTTP": 80}, {"HTTPS": 443}]
    assert ingress[f"{ALB}/ssl-redirect"] == "443"
    plain = annotations(find(PROD, "Ingress", "sluice", PLAIN))
    assert json.loads(plain[f"{ALB}/listen-ports"]) == [{"HTTP": 80}]
    assert f"{ALB}/ssl-redirect" not in plain
    assert "certificateARNs" not in find(PROD, "IngressClassParams", "sluice", PLAIN)["spec"]


def test_a_target_that_goes_keeps_its_connections_until_its_proxy_has_ended() -> None:
    nlb = pairs(annotations(find(DEV, "Service", "sluice"))[f"{NLB}-target-group-attributes"])
    alb = pairs(annotations(find(PROD, "Ingress", "sluice"))[f"{ALB}/target-group-attributes"])
    for stage, attributes in ((DEV, nlb), (PROD, alb)):
        delay = int(attributes["deregistration_delay.timeout_seconds"])
        assert drain_seconds(stage) <= delay < pod(stage, "proxy")["terminationGracePeriodSeconds"]


def test_load_balancers_ask_the_proxies_whether_they_are_ready() -> None:
    nlb, alb = annotations(find(DEV, "Service", "sluice")), annotations(find(PROD, "Ingress", "sluice"))
    assert (nlb[f"{NLB}-healthcheck-port"], nlb[f"{NLB}-healthcheck-path"]) == ("8404", "/readyz")
    assert (alb[f"{ALB}/healthcheck-port"], alb[f"{ALB}/healthcheck-path"]) == ("8404", "/readyz")
    # Two checks after SIGUSR1 a target is out; the proxy is open for longer.
    for stage, interval, misses in (
        (DEV, nlb[f"{NLB}-healthcheck-interval"], nlb[f"{NLB}-healthcheck-unhealthy-threshold"]),
        (PROD, alb[f"{ALB}/healthcheck-interval-seconds"], alb[f"{ALB}/unhealthy-threshold-count"]),
    ):
        assert int(interval) * int(misses) < stage.prestop
