"""How many pods there are: by the work there is (KEDA), or by the CPU they use (a plain HorizontalPodAutoscaler)."""

from typing import Any

from constructs import Construct

from cdk8s_manifests.custom_object import custom_object
from cdk8s_manifests.names import GATEWAY, PROXIES, STATUS_PORT, host
from config import Autoscaling, Stage

# What waits and what is served, of every proxy: one holds the queue at a time, and the sum is right while it moves.
WORK = 'haproxy_backend_current_sessions{proxy="generate"}'
CPU = "100m"  # of a pod, on average
POLLING = 5  # seconds, of KEDA from 0 to 1 pod; above that the HPA asks it, every 15 s
IDLE = 300  # seconds without a request after which a minimum of 0 is reached

# Up at once, by as much again or four pods every 15 s. Down when five minutes have needed less, one pod a minute: a
# pod that goes takes the time of its longest answer, and one that comes back has its model to load.
BEHAVIOR: dict[str, Any] = {
    "scaleUp": {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Percent", "value": 100, "periodSeconds": 15},
            {"type": "Pods", "value": 4, "periodSeconds": 15},
        ],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": 300,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
    },
}


def autoscaler(scope: Construct, id_: str, *, stage: Stage) -> None:
    """Make what Stage.autoscaling names, for the gateway's Deployment."""
    if stage.autoscaling is Autoscaling.REQUESTS:
        spec = scaled_object(stage)
        custom_object(scope, id_, api_version="keda.sh/v1alpha1", kind="ScaledObject", name=GATEWAY, spec=spec)
    else:
        custom_object(
            scope, id_, api_version="autoscaling/v2", kind="HorizontalPodAutoscaler", name=GATEWAY, spec=by_cpu(stage)
        )


def scaled_object(stage: Stage) -> dict[str, Any]:
    """Return the spec of KEDA's ScaledObject.

    When no proxy's metrics can be read, the pods there are stay, and never fewer than the minimum.
    """
    work = {
        "url": f"http://{host(PROXIES, stage.namespace)}:{STATUS_PORT}/metrics",
        "format": "prometheus",
        "valueLocation": WORK,
        "aggregateFromKubeServiceEndpoints": "true",
        "aggregationType": "sum",
        "targetValue": str(stage.requests_per_replica),
    }
    return {
        "scaleTargetRef": {"name": GATEWAY},
        "minReplicaCount": stage.min_replicas,
        "maxReplicaCount": stage.max_replicas,
        "pollingInterval": POLLING,
        "cooldownPeriod": IDLE,
        "fallback": {
            "failureThreshold": 3,
            "replicas": max(1, stage.min_replicas),
            "behavior": "currentReplicasIfHigher",
        },
        "advanced": {"horizontalPodAutoscalerConfig": {"name": GATEWAY, "behavior": BEHAVIOR}},
        "triggers": [{"type": "metrics-api", "name": "work", "metricType": "AverageValue", "metadata": work}],
    }


def by_cpu(stage: Stage) -> dict[str, Any]:
    """Return the spec of a HorizontalPodAutoscaler on CPU: the comparison, for one generation takes all the CPU."""
    target = {"name": "cpu", "target": {"type": "AverageValue", "averageValue": CPU}}
    return {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": GATEWAY},
        "minReplicas": stage.min_replicas,
        "maxReplicas": stage.max_replicas,
        "metrics": [{"type": "Resource", "resource": target}],
        "behavior": BEHAVIOR,
    }
