"""The autoscaler: by requests served and queued (KEDA), or by CPU (a plain HorizontalPodAutoscaler)."""

from typing import Any

from constructs import Construct

from cdk8s_manifests.custom_object import custom_object
from cdk8s_manifests.names import PROXIES, STATUS_PORT, ObjectNames, host
from config import Autoscaling, Stage

CPU = "100m"  # of a pod, on average
POLLING = 5  # seconds, by KEDA between 0 and 1 pods; above that the HPA asks KEDA, every 15 s
IDLE = 300  # seconds without a request after which a minimum of 0 is applied

# Scale up at once: double, or add four pods, every 15 s. Scale down by one pod a minute, once five minutes have needed
# fewer: a pod that stops takes as long as its longest answer, and one that starts has a model to load.
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


def autoscaler(scope: Construct, id_: str, *, view: Stage, names: ObjectNames) -> None:
    """Create the autoscaler that Stage.autoscaling names, for a model's Deployment. view: the stage as it sees it."""
    if view.autoscaling is Autoscaling.REQUESTS:
        version, kind, spec = "keda.sh/v1alpha1", "ScaledObject", scaled_object(view, names)
    else:
        version, kind, spec = "autoscaling/v2", "HorizontalPodAutoscaler", by_cpu(view, names)
    custom_object(scope, id_, api_version=version, kind=kind, name=names.component, spec=spec)


def work_of(queue: str) -> str:
    """Return the metric with the requests served and queued in a backend of HAProxy.

    The sum over all proxies counts: one at a time holds the queue, and while it moves the sum is still right.
    """
    return f'haproxy_backend_current_sessions{{proxy="{queue}"}}'


def scaled_object(stage: Stage, names: ObjectNames) -> dict[str, Any]:
    """Return the spec of KEDA's ScaledObject.

    When no proxy's metrics can be read, the current pods are kept, and at least the minimum.
    """
    work = {
        "url": f"http://{host(PROXIES, stage.namespace)}:{STATUS_PORT}/metrics",
        "format": "prometheus",
        "valueLocation": work_of(names.queue),
        "aggregateFromKubeServiceEndpoints": "true",
        "aggregationType": "sum",
        "targetValue": str(stage.requests_per_replica),
    }
    return {
        "scaleTargetRef": {"name": names.component},
        "minReplicaCount": stage.min_replicas,
        "maxReplicaCount": stage.max_replicas,
        "pollingInterval": POLLING,
        "cooldownPeriod": IDLE,
        "fallback": {
            "failureThreshold": 3,
            "replicas": max(1, stage.min_replicas),
            "behavior": "currentReplicasIfHigher",
        },
        "advanced": {"horizontalPodAutoscalerConfig": {"name": names.component, "behavior": BEHAVIOR}},
        "triggers": [{"type": "metrics-api", "name": "work", "metricType": "AverageValue", "metadata": work}],
    }


def by_cpu(stage: Stage, names: ObjectNames) -> dict[str, Any]:
    """Return the spec of a HorizontalPodAutoscaler on CPU, for comparison: one generation already takes all the CPU."""
    target = {"name": "cpu", "target": {"type": "AverageValue", "averageValue": CPU}}
    return {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": names.component},
        "minReplicas": stage.min_replicas,
        "maxReplicas": stage.max_replicas,
        "metrics": [{"type": "Resource", "resource": target}],
        "behavior": BEHAVIOR,
    }
