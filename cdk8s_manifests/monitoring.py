"""A ServiceMonitor and a dashboard, for a cluster with the Prometheus Operator and Grafana."""

from typing import Any

from cdk8s_plus_36 import k8s
from constructs import Construct

from cdk8s_manifests.custom_object import custom_object
from cdk8s_manifests.dashboard import dashboard
from cdk8s_manifests.names import NAME
from config import Stage


def monitoring(scope: Construct, id_: str, *, stage: Stage) -> None:
    """Create the ServiceMonitor and the ConfigMap with the dashboard, if the stage has monitoring."""
    if not stage.monitoring:
        return
    custom_object(
        scope,
        f"{id_}-services",
        api_version="monitoring.coreos.com/v1",
        kind="ServiceMonitor",
        name=NAME,
        spec=_service_monitor(),
    )
    # Grafana's sidecar, as kube-prometheus-stack configures it, looks for this label.
    metadata = k8s.ObjectMeta(name="dashboard", labels={"grafana_dashboard": "1"})
    k8s.KubeConfigMap(scope, f"{id_}-dashboard", metadata=metadata, data={"sluice.json": dashboard()})


def _service_monitor() -> dict[str, Any]:
    return {
        "selector": {"matchLabels": {"app.kubernetes.io/part-of": NAME}},
        "endpoints": [{"port": port, "path": "/metrics", "interval": "15s"} for port in ("private", "status")],
    }
