"""EC2 instance types, and what of a node is left for pods."""

import math
from dataclasses import dataclass

# What a node keeps, as Karpenter reckons before it starts one: github.com/aws/karpenter-provider-aws,
# pkg/providers/instancetype/types.go, and its vmMemoryOverheadPercent of 0.075. Auto Mode's own agents are processes of
# the node and in these; of DaemonSets there is one, which ships logs (stacks/fluent_bit.yaml).
VM_OVERHEAD = 0.075  # of the memory that AWS lists: what the hypervisor takes
GRAVITON_MIB = 64  # that a Graviton's kernel reserves
PODS_A_NODE = 110  # Kubernetes' limit, which Auto Mode reaches, as it gives nodes prefixes of addresses
KUBELET_MIB = 255 + 11 * PODS_A_NODE  # kube-reserved
EVICTION_MIB = 100  # below which the kubelet evicts pods
KUBELET_CPUS = ((1, 0.06), (1, 0.01), (2, 0.005), (math.inf, 0.0025))  # of so many CPUs that share, in this order
DAEMON_CPUS, DAEMON_MIB = 0.1, 128


@dataclass(frozen=True, kw_only=True)
class Node:
    """An EC2 instance type and its size, as AWS lists it."""

    instance_type: str
    cpus: int
    memory_gib: int
    arm64: bool = False

    @property
    def free_cpus(self) -> float:
        """Return what pods may request, to a hundredth."""
        left, kept = float(self.cpus), DAEMON_CPUS
        for cpus, share in KUBELET_CPUS:
            kept += min(left, cpus) * share
            left = max(0, left - cpus)
        return math.floor((self.cpus - kept) * 100) / 100

    @property
    def free_mib(self) -> int:
        """Return what pods may request."""
        listed = self.memory_gib * 1024 - (GRAVITON_MIB if self.arm64 else 0)
        return listed - math.ceil(listed * VM_OVERHEAD) - KUBELET_MIB - EVICTION_MIB - DAEMON_MIB


C7I_XLARGE = Node(instance_type="c7i.xlarge", cpus=4, memory_gib=8)
C7I_2XLARGE = Node(instance_type="c7i.2xlarge", cpus=8, memory_gib=16)
C7G_XLARGE = Node(instance_type="c7g.xlarge", cpus=4, memory_gib=8, arm64=True)
C7G_2XLARGE = Node(instance_type="c7g.2xlarge", cpus=8, memory_gib=16, arm64=True)
M7G_LARGE = Node(instance_type="m7g.large", cpus=2, memory_gib=8, arm64=True)
