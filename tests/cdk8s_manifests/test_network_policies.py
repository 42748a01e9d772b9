"""Evaluates the policies as a network plugin does: the test cluster's own doesn't enforce them."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from config import DEV, LOCAL, PROD, Autoscaling, Stage
from tests.support.rendered import Object, find, objects
from tests.support.several_models import LOCAL_TWO

GATEWAY, PROXY = "sluice", "proxy"


def labels(stage: Stage, component: str) -> dict[str, str]:
    found: dict[str, str] = find(stage, "Deployment", component)["spec"]["template"]["metadata"]["labels"]
    return found


def selected(selector: Object, its: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= its.items()


def matches(peer: Object, stage: Stage, other: str | Object) -> bool:
    """Say whether a rule's peer is `other`: a component, an address, or a pod's namespace and labels."""
    if isinstance(other, str) and other[0].isdigit():
        return "ipBlock" in peer and ip_address(other) in ip_network(peer["ipBlock"]["cidr"])
    if isinstance(other, str):
        other = {"namespace": stage.namespace, "labels": labels(stage, other)}
    if "ipBlock" in peer:
        return False
    namespace = {"kubernetes.io/metadata.name": other["namespace"]}
    same = other["namespace"] == stage.namespace
    inside = selected(peer["namespaceSelector"], namespace) if "namespaceSelector" in peer else same
    return inside and selected(peer.get("podSelector", {}), other["labels"])


def allowed(stage: Stage, direction: str, component: str, other: Any, port: int, protocol: str = "TCP") -> bool:
    """Say whether a connection from (Ingress) or to (Egress) `other` is let through at a component's pods."""
    way, peers = direction.lower(), {"Ingress": "from", "Egress": "to"}[direction]
    policies = [obj["spec"] for obj in objects(stage) if obj["kind"] == "NetworkPolicy"]
    mine = [spec for spec in policies if selected(spec["podSelector"], labels(stage, component))]
    assert any(direction in spec["policyTypes"] for spec in mine)  # else everything is let through
    return any(
        {"port": port, "protocol": protocol} in rule["ports"]
        and any(matches(peer, stage, other) for peer in rule[peers])
        for spec in mine
        for rule in spec.get(way, [])
    )


def pod(namespace: str, **its: str) -> Object:
    return {"namespace": namespace, "labels": its}


DNS = {"namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}
stages = pytest.mark.parametrize("stage", [LOCAL, DEV, PROD], ids=lambda stage: stage.name)


@stages
def test_a_request_finds_its_way(stage: Stage) -> None:
    client: Any = pod("default") if stage is LOCAL else "10.0.3.4" if stage is DEV else "10.1.3.4"
    assert allowed(stage, "Ingress", PROXY, client, 5000)
    for port in (8081, 8404):
        assert allowed(stage, "Egress", PROXY, PROXY, port)
        assert allowed(stage, "Ingress", PROXY, PROXY, port)
    for port in (5000, 9090):
        assert allowed(stage, "Egress", PROXY, GATEWAY, port)
        assert allowed(stage, "Ingress", GATEWAY, PROXY, port)


@stages
def test_nobody_passes_the_queue_by(stage: Stage) -> None:
    strangers: list[Any] = [pod("default"), pod(stage.namespace, app="other"), "10.0.3.4", "10.1.3.4", "8.8.8.8"]
    for stranger in strangers:
        for port in (5000, 9090, 11434):
            assert not allowed(stage, "Ingress", GATEWAY, stranger, port)
        for port in (8080, 8081):
            assert not allowed(stage, "Ingress", PROXY, stranger, port)
    assert not allowed(stage, "Ingress", GATEWAY, PROXY, 11434)


@stages
def test_pods_that_generate_reach_nothing(stage: Stage) -> None:
    for target in (DNS, pod("default"), PROXY, "8.8.8.8", "169.254.169.254", "10.0.0.1"):
        for port in (53, 80, 443, 8080):
            assert not allowed(stage, "Egress", GATEWAY, target, port)
            assert not allowed(stage, "Egress", GATEWAY, target, port, "UDP")


@stages
def test_proxies_reach_pods_and_dns_only(stage: Stage) -> None:
    for protocol in ("TCP", "UDP"):
        assert allowed(stage, "Egress", PROXY, DNS, 53, protocol)
    for target in (pod("default"), "8.8.8.8", "169.254.169.254", "10.0.0.1"):
        for port in (53, 80, 443, 5000):
            assert not allowed(stage, "Egress", PROXY, target, port)
    assert not allowed(stage, "Egress", PROXY, GATEWAY, 11434)


@stages
def test_traces_have_a_way_to_their_collector_and_nothing_else_has(stage: Stage) -> None:
    traced = replace(stage, traces_to="collector.monitoring:4318")
    for component in (GATEWAY, PROXY):
        assert allowed(traced, "Egress", component, pod("monitoring"), 4318)
        assert allowed(traced, "Egress", component, DNS, 53, "UDP")
        assert not allowed(traced, "Egress", component, pod("monitoring"), 443)
        assert not allowed(traced, "Egress", component, pod("default"), 4318)
        assert not allowed(stage, "Egress", component, pod("monitoring"), 4318)


@pytest.mark.parametrize("stage", [DEV, PROD], ids=lambda stage: stage.name)
def test_dns_is_reached_where_it_runs_on_the_node(stage: Stage) -> None:
    assert allowed(stage, "Egress", PROXY, "172.20.0.10", 53, "UDP")
    assert not allowed(stage, "Egress", PROXY, "172.20.0.10", 443)


@pytest.mark.parametrize("stage", [DEV, PROD], ids=lambda stage: stage.name)
def test_a_load_balancer_reaches_clients_port_and_health_check_from_our_network_only(stage: Stage) -> None:
    inside = "10.0.9.9" if stage is DEV else "10.1.9.9"
    outside = "10.1.9.9" if stage is DEV else "10.0.9.9"
    for port in (5000, 8404):
        assert allowed(stage, "Ingress", PROXY, inside, port)
        assert not allowed(stage, "Ingress", PROXY, outside, port)
        assert not allowed(stage, "Ingress", PROXY, pod("default"), port)


@stages
def test_metrics_are_read_by_who_scales_and_who_watches_and_nobody_else(stage: Stage) -> None:
    keda, monitoring = pod("keda"), pod("monitoring")
    watched = replace(stage, monitoring=True)
    by_cpu = replace(stage, autoscaling=Autoscaling.CPU)
    by_requests = replace(stage, autoscaling=Autoscaling.REQUESTS)
    assert allowed(by_requests, "Ingress", PROXY, keda, 8404)
    assert not allowed(by_cpu, "Ingress", PROXY, keda, 8404)
    assert not allowed(stage, "Ingress", GATEWAY, keda, 9090)
    assert not allowed(by_requests, "Ingress", PROXY, keda, 9090)
    assert not allowed(stage, "Ingress", GATEWAY, monitoring, 9090)
    for port in (8404, 9090):
        assert not allowed(stage, "Ingress", PROXY, monitoring, port)
        assert allowed(watched, "Ingress", PROXY, monitoring, port)
    assert allowed(watched, "Ingress", GATEWAY, monitoring, 9090)
    assert not allowed(watched, "Ingress", GATEWAY, monitoring, 5000)


def test_each_models_pods_are_reached_by_proxies_alone_and_reach_nothing() -> None:
    other = "sluice-all-minilm"
    for port in (5000, 9090):
        assert allowed(LOCAL_TWO, "Egress", PROXY, other, port)
        assert allowed(LOCAL_TWO, "Ingress", other, PROXY, port)
        assert not allowed(LOCAL_TWO, "Ingress", other, GATEWAY, port)
        assert not allowed(LOCAL_TWO, "Ingress", other, pod("default"), port)
    for target in (GATEWAY, PROXY, DNS, "8.8.8.8"):
        assert not allowed(LOCAL_TWO, "Egress", other, target, 443)
