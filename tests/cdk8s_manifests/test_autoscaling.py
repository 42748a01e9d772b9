from dataclasses import replace

import pytest

from config import LOCAL, STAGES, Autoscaling, Stage
from tests.support.rendered import container, find, objects

BY_REQUESTS = [replace(stage, autoscaling=Autoscaling.REQUESTS) for stage in STAGES.values()]
each_stage = pytest.mark.parametrize("stage", BY_REQUESTS, ids=lambda stage: stage.name)


@each_stage
def test_the_number_of_pods_follows_what_waits_and_is_served(stage: Stage) -> None:
    spec = find(stage, "ScaledObject", "sluice")["spec"]
    assert spec["scaleTargetRef"] == {"name": "sluice"}
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (stage.min_replicas, stage.max_replicas)
    [trigger] = spec["triggers"]
    assert (trigger["type"], trigger["metricType"]) == ("metrics-api", "AverageValue")
    metadata = trigger["metadata"]
    assert metadata["targetValue"] == str(stage.requests_per_replica)
    assert metadata["aggregateFromKubeServiceEndpoints"] == "true"
    assert metadata["aggregationType"] == "sum"  # one proxy has the queue, any may
    assert all(isinstance(value, str) for value in metadata.values())  # as KEDA's API has them


@each_stage
def test_keda_asks_a_port_of_every_proxy(stage: Stage) -> None:
    [trigger] = find(stage, "ScaledObject", "sluice")["spec"]["triggers"]
    assert trigger["metadata"]["url"] == f"http://proxies.{stage.namespace}.svc.cluster.local:8404/metrics"
    assert 8404 in [port["port"] for port in find(stage, "Service", "proxies")["spec"]["ports"]]
    assert {"name": "status", "containerPort": 8404} in container(stage, "proxy", "haproxy")["ports"]


@each_stage
def test_without_metrics_the_pods_there_are_stay(stage: Stage) -> None:
    fallback = find(stage, "ScaledObject", "sluice")["spec"]["fallback"]
    assert fallback["behavior"] == "currentReplicasIfHigher"
    assert fallback["replicas"] == max(1, stage.min_replicas)


@pytest.mark.parametrize("autoscaling", Autoscaling)
def test_it_goes_up_fast_and_down_slowly(autoscaling: Autoscaling) -> None:
    stage = replace(LOCAL, autoscaling=autoscaling)
    if autoscaling is Autoscaling.CPU:
        behavior = find(stage, "HorizontalPodAutoscaler", "sluice")["spec"]["behavior"]
    else:
        advanced = find(stage, "ScaledObject", "sluice")["spec"]["advanced"]
        behavior = advanced["horizontalPodAutoscalerConfig"]["behavior"]
    up, down = behavior["scaleUp"], behavior["scaleDown"]
    assert up["stabilizationWindowSeconds"] == 0 < down["stabilizationWindowSeconds"]
    assert {"type": "Percent", "value": 100, "periodSeconds": 15} in up["policies"]
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]


def test_by_cpu_it_is_a_plain_autoscaler() -> None:
    stage = replace(LOCAL, autoscaling=Autoscaling.CPU)
    spec = find(stage, "HorizontalPodAutoscaler", "sluice")["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "sluice"}
    assert (spec["minReplicas"], spec["maxReplicas"]) == (stage.min_replicas, stage.max_replicas)
    target = {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "100m"}}
    assert spec["metrics"] == [{"type": "Resource", "resource": target}]


@pytest.mark.parametrize("autoscaling", Autoscaling)
def test_one_autoscaler_and_no_other(autoscaling: Autoscaling) -> None:
    kinds = [obj["kind"] for obj in objects(replace(LOCAL, autoscaling=autoscaling))]
    assert len([kind for kind in kinds if kind in ("ScaledObject", "HorizontalPodAutoscaler")]) == 1
