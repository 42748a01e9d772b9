"""The Kubernetes objects that define which nodes EKS Auto Mode may start.

Auto Mode itself gives each node IMDSv2 with one hop (no pod gets the node's role), an encrypted disk, and a new image
every week.
"""

import math
from typing import Any

from config import NODE_DRAIN, ConfigError, Node, Stage

Manifest = dict[str, Any]

# A node is replaced after two weeks at most.
NODE_LIFETIME = "336h"
# Before an empty node is stopped: a replica that starts within that time finds its images on the node.
IDLE_TIME = "5m"


def cluster_manifests(stage: Stage) -> list[Manifest]:
    """Return the stage's node pools, and the setting that makes the cluster enforce network policies.

    Raises ConfigError for a stage that has no nodes on AWS.
    """
    node = stage.node
    if node is None:
        raise ConfigError(f"stage {stage.name!r} isn't for AWS: node is None, name an instance type")
    manifests = [NETWORK_POLICIES, cpu_pool(stage, node)]
    if stage.arm64_nodes:
        manifests.append(arm64_pool(stage, node))
    if stage.gpu_nodes:
        manifests.append(gpu_pool(stage))
    return manifests


# Without it, EKS accepts NetworkPolicies but doesn't enforce them.
NETWORK_POLICIES: Manifest = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "amazon-vpc-cni", "namespace": "kube-system"},
    "data": {"enable-network-policy-controller": "true"},
}


def cpu_pool(stage: Stage, node: Node) -> Manifest:
    """Return the pool of the one instance type that the stage's numbers are made for."""
    only = {"node.kubernetes.io/instance-type": [node.instance_type]}
    return _pool("sluice", only, limits=_cpu_limits(stage, node))


def arm64_pool(stage: Stage, node: Node) -> Manifest:
    """Return a pool of Graviton nodes of the same size, which is preferred: they cost less and run the same images."""
    only = {
        "kubernetes.io/arch": ["arm64"],
        "eks.amazonaws.com/instance-category": ["c", "m", "r"],
        "eks.amazonaws.com/instance-generation": ["7", "8"],
        "eks.amazonaws.com/instance-cpu": [str(node.cpus)],
        "eks.amazonaws.com/instance-memory": [str(node.memory_gib * 1024)],
    }
    return _pool("sluice-arm64", only, limits=_cpu_limits(stage, node), weight=10)


def gpu_pool(stage: Stage) -> Manifest:
    """Return a pool of nodes with one NVIDIA GPU each, for pods that ask for one and tolerate its taint."""
    only = {
        "kubernetes.io/arch": ["amd64"],
        "eks.amazonaws.com/instance-family": ["g6", "g6e"],
        "eks.amazonaws.com/instance-gpu-count": ["1"],
    }
    pool = _pool("sluice-gpu", only, limits={"nvidia.com/gpu": str(stage.max_replicas)})
    pool["spec"]["template"]["spec"]["taints"] = [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]
    return pool


def _cpu_limits(stage: Stage, node: Node) -> dict[str, str]:
    """Return the limit: a node for each replica, a quarter more for a rolling update, two for everything else."""
    return {"cpu": str((math.ceil(stage.max_replicas * 1.25) + 2) * node.cpus)}


def _pool(name: str, only: dict[str, list[str]], *, limits: dict[str, str], weight: int | None = None) -> Manifest:
    """Return a pool of on-demand nodes that have one of the values of each label in `only`."""
    labels = {"karpenter.sh/capacity-type": ["on-demand"], **only}
    template = {
        "nodeClassRef": {"group": "eks.amazonaws.com", "kind": "NodeClass", "name": "default"},
        "requirements": [{"key": key, "operator": "In", "values": values} for key, values in labels.items()],
        "expireAfter": NODE_LIFETIME,
        "terminationGracePeriod": f"{NODE_DRAIN // 60}m",
    }
    # Only when empty: consolidating pods would interrupt answers, to save a node that the autoscaler empties anyway.
    disruption = {"consolidationPolicy": "WhenEmpty", "consolidateAfter": IDLE_TIME}
    spec = {"template": {"spec": template}, "limits": limits, "disruption": disruption}
    if weight is not None:
        spec["weight"] = weight
    return {"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": name}, "spec": spec}
