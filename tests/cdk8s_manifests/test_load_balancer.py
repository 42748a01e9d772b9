import json
from dataclasses import replace
from typing import Any

import pytest

from config import DEV, LOCAL, PROD, Stage
from tests.support.rendered import CONTEXT, Object, container, find, pod

ALB = "alb.ingress.kubernetes.io"
PLAIN = replace(CONTEXT, domain="")


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


@pytest.mark.parametrize("stage", [LOCAL, DEV, PROD], ids=lambda stage: stage.name)
def test_the_service_is_the_clusters_own(stage: Stage) -> None:
    assert "type" not in find(stage, "Service", "sluice")["spec"]  # ClusterIP


def test_an_application_load_balancer_is_of_auto_mode_and_goes_to_pods() -> None:
    ingress = find(PROD, "Ingress", "sluice")
    assert ingress["spec"]["ingressClassName"] == "sluice"
    [rule] = ingress["spec"]["rules"]
    [path] = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": "sluice", "port": {"number": 80}}
    assert annotations(ingress)[f"{ALB}/target-type"] == "ip"
    attributes = pairs(annotations(ingress)[f"{ALB}/target-group-attributes"])
    assert attributes["load_balancing.algorithm.type"] == "least_outstanding_requests"


def test_an_application_load_balancer_speaks_tls_where_there_is_a_domain() -> None:
    ingress = find(PROD, "Ingress", "sluice")
    assert json.loads(annotations(ingress)[f"{ALB}/listen-ports"]) == [{"HTTP": 80}, {"HTTPS": 443}]
    assert annotations(ingress)[f"{ALB}/ssl-redirect"] == "443"
    assert ingress["spec"]["tls"] == [{"hosts": ["llm.example.com"]}]
    plain = find(PROD, "Ingress", "sluice", PLAIN)
    assert json.loads(annotations(plain)[f"{ALB}/listen-ports"]) == [{"HTTP": 80}]
    assert f"{ALB}/ssl-redirect" not in annotations(plain)
    assert "tls" not in plain["spec"]


def test_the_ingress_is_of_the_stages_name_for_which_external_dns_writes_a_record() -> None:
    for stage, context, host in ((PROD, CONTEXT, "llm.example.com"), (DEV, CONTEXT, "dev.llm.example.com")):
        assert find(stage, "Ingress", "sluice", context)["spec"]["rules"][0]["host"] == host
    assert "host" not in find(PROD, "Ingress", "sluice", PLAIN)["spec"]["rules"][0]


def test_tls_is_of_the_policy_that_aws_recommends() -> None:
    assert annotations(find(PROD, "Ingress", "sluice"))[f"{ALB}/ssl-policy"].startswith(
        "ELBSecurityPolicy-TLS13-1-2-Res"
    )
    assert f"{ALB}/ssl-policy" not in annotations(find(PROD, "Ingress", "sluice", PLAIN))


def test_browsers_are_told_to_use_https_only_where_there_is_tls() -> None:
    assert find(PROD, "ConfigMap", "front")["data"]["HSTS_SECONDS"] == "31536000"
    assert "HSTS_SECONDS" not in find(PROD, "ConfigMap", "front", PLAIN)["data"]


def test_a_stage_may_be_reached_from_some_networks_only() -> None:
    networks = ("203.0.113.0/24", "198.51.100.7/32")
    named = annotations(find(replace(DEV, allowed_cidrs=networks), "Ingress", "sluice"))
    assert named[f"{ALB}/inbound-cidrs"] == "203.0.113.0/24,198.51.100.7/32"
    assert f"{ALB}/inbound-cidrs" not in annotations(find(DEV, "Ingress", "sluice"))


@pytest.mark.parametrize("stage", [DEV, PROD], ids=lambda stage: stage.name)
def test_a_target_that_goes_keeps_its_connections_until_its_proxy_has_ended(stage: Stage) -> None:
    attributes = pairs(annotations(find(stage, "Ingress", "sluice"))[f"{ALB}/target-group-attributes"])
    delay = int(attributes["deregistration_delay.timeout_seconds"])
    assert stage.front_drain <= delay < pod(stage, "proxy")["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("stage", [DEV, PROD], ids=lambda stage: stage.name)
def test_the_load_balancer_asks_the_proxies_whether_they_are_ready(stage: Stage) -> None:
    asked = annotations(find(stage, "Ingress", "sluice"))
    assert (asked[f"{ALB}/healthcheck-port"], asked[f"{ALB}/healthcheck-path"]) == ("8404", "/readyz")
    # Two failed checks after SIGTERM a target is out; the front accepts requests for longer.
    interval, misses = asked[f"{ALB}/healthcheck-interval-seconds"], asked[f"{ALB}/unhealthy-threshold-count"]
    assert int(interval) * int(misses) < stage.front_prestop
