"""The Kubernetes objects that define which nodes EKS Auto Mode may start.

Auto Mode itself gives each node IMDSv2 with one hop (no pod gets the node's role), an encrypted disk, and a new image
every week. CoreDNS, kube-proxy and the network plugin are processes of its nodes, not pods.
"""

from typing import Any

from config import MODEL_TAINT, NODE_DRAIN, PLATFORM_POOL, ConfigError, Node, Stage

Manifest = dict[str, Any]

NODE_CLASS = "sluice"
# A node is replaced after two weeks at most.
NODE_LIFETIME = "336h"
# Before an empty node is stopped: a replica that starts within that time finds its images on the node.
IDLE_TIME = "5m"


def cluster_manifests(stage: Stage, *, role: str, subnets: list[str], group: str) -> list[Manifest]:
    """Return the stage's node class and pools, and the setting that makes the cluster enforce network policies.

    role: the name of the nodes' role. subnets, group: the ids of their subnets and of their security group. Raises
    ConfigError for a stage that has no nodes on AWS.
    """
    if stage.node is None:
        raise ConfigError(f"stage {stage.name!r} isn't for AWS: node is None, name an instance type")
    nodes = node_class(stage, role=role, subnets=subnets, group=group)
    return [NETWORK_POLICIES, nodes, *model_pools(stage), platform_pool(stage)]


# Without it, EKS accepts NetworkPolicies but doesn't enforce them.
NETWORK_POLICIES: Manifest = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "amazon-vpc-cni", "namespace": "kube-system"},
    "data": {"enable-network-policy-controller": "true"},
}


def node_class(stage: Stage, *, role: str, subnets: list[str], group: str) -> Manifest:
    """Return what nodes of both pools have in common. It is the built-in `default` with the stage's tags."""
    spec = {
        "role": role,
        "subnetSelectorTerms": [{"id": subnet} for subnet in subnets],
        "securityGroupSelectorTerms": [{"id": group}],
        "tags": stage.tags,
    }
    return {"apiVersion": "eks.amazonaws.com/v1", "kind": "NodeClass", "metadata": {"name": NODE_CLASS}, "spec": spec}


def model_pools(stage: Stage) -> list[Manifest]:
    """Return a pool for each instance type that a model's numbers are made for: models may share one."""
    return [_model_pool(stage.pool(node), node, limit=limit) for node, limit in stage.model_nodes.items()]


def _model_pool(name: str, node: Node, *, limit: int) -> Manifest:
    """Return a pool for pods that generate: they alone tolerate its taint, so a node is empty once they have gone."""
    pool = _pool(name, node, limit=limit)
    pool["spec"]["template"]["spec"]["taints"] = [{"key": MODEL_TAINT, "effect": "NoSchedule"}]
    # Only when empty: consolidating pods would interrupt answers, to save a node that the autoscaler empties anyway.
    pool["spec"]["disruption"] = {"consolidationPolicy": "WhenEmpty", "consolidateAfter": IDLE_TIME}
    return pool


def platform_pool(stage: Stage) -> Manifest:
    """Return the pool for everything else. Its pods move together where fewer nodes suffice, one node at a time."""
    pool = _pool(PLATFORM_POOL, stage.platform_node, limit=stage.platform_nodes)
    pool["spec"]["disruption"] = {
        "consolidationPolicy": "WhenEmptyOrUnderutilized",
        "consolidateAfter": IDLE_TIME,
        "budgets": [{"nodes": "1"}],
    }
    return pool


def _pool(name: str, node: Node, *, limit: int) -> Manifest:
    """Return a pool of on-demand nodes of one instance type, `limit` of them at most."""
    only = {
        "karpenter.sh/capacity-type": "on-demand",
        "kubernetes.io/arch": "arm64" if node.arm64 else "amd64",
        "node.kubernetes.io/instance-type": node.instance_type,
    }
    template = {
        "nodeClassRef": {"group": "eks.amazonaws.com", "kind": "NodeClass", "name": NODE_CLASS},
        "requirements": [{"key": key, "operator": "In", "values": [value]} for key, value in only.items()],
        "expireAfter": NODE_LIFETIME,
        "terminationGracePeriod": f"{NODE_DRAIN // 60}m",
    }
    spec: dict[str, Any] = {"template": {"spec": template}, "limits": {"cpu": str(limit * node.cpus)}}
    return {"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": name}, "spec": spec}
