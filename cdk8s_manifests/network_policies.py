"""Which connections are allowed; all others are blocked, in both directions."""

from cdk8s_plus_36 import k8s
from constructs import Construct

from cdk8s_manifests import pods
from cdk8s_manifests.names import (
    GATEWAY_PORT,
    GATEWAY_PRIVATE_PORT,
    PROXY,
    QUEUE_PORT,
    STATUS_PORT,
    object_names,
)
from config import Autoscaling, LoadBalancer, Stage

DNS = 53
KEDA, MONITORING = "keda", "monitoring"  # namespaces


class NetworkPolicies(Construct):
    """The policies that close a namespace, except to requests, probes and metrics."""

    def __init__(self, scope: Construct, id_: str, *, stage: Stage) -> None:
        super().__init__(scope, id_)
        self._stage = stage
        everything = k8s.NetworkPolicySpec(pod_selector=k8s.LabelSelector(), policy_types=["Ingress", "Egress"])
        k8s.KubeNetworkPolicy(self, "all", metadata=k8s.ObjectMeta(name="default-deny"), spec=everything)
        self._models = [object_names(stage, view) for view in stage.each_model]
        for each in self._models:
            named, spec = k8s.ObjectMeta(name=each.component), self._gateway(each.component)
            k8s.KubeNetworkPolicy(self, f"gateway{each.suffix}", metadata=named, spec=spec)
        k8s.KubeNetworkPolicy(self, "proxy", metadata=k8s.ObjectMeta(name=PROXY), spec=self._proxy())

    def _gateway(self, component: str) -> k8s.NetworkPolicySpec:
        """Allow proxies in, and nothing but traces out: the model is in the pod."""
        ingress = [_from([_pods(PROXY)], GATEWAY_PORT, GATEWAY_PRIVATE_PORT)]
        if self._stage.monitoring:
            ingress.append(_from([_namespace(MONITORING)], GATEWAY_PRIVATE_PORT))
        return k8s.NetworkPolicySpec(
            pod_selector=pods.selector(component),
            policy_types=["Ingress", "Egress"],
            ingress=ingress,
            egress=[*traces, self._names()] if (traces := self._traces()) else None,
        )

    def _proxy(self) -> k8s.NetworkPolicySpec:
        ingress = [
            _from(self._clients(), GATEWAY_PORT, *self._health_check_ports()),
            _from([_pods(PROXY)], QUEUE_PORT, STATUS_PORT),
        ]
        if readers := self._metrics_readers():
            ingress.append(_from(readers, STATUS_PORT))
        if self._stage.monitoring:
            ingress.append(_from([_namespace(MONITORING)], GATEWAY_PRIVATE_PORT))
        generate = [_pods(each.component) for each in self._models]
        egress = [
            k8s.NetworkPolicyEgressRule(to=generate, ports=_ports(GATEWAY_PORT, GATEWAY_PRIVATE_PORT)),
            k8s.NetworkPolicyEgressRule(to=[_pods(PROXY)], ports=_ports(QUEUE_PORT, STATUS_PORT)),
            self._names(),
            *self._traces(),
        ]
        return k8s.NetworkPolicySpec(
            pod_selector=pods.selector(PROXY), policy_types=["Ingress", "Egress"], ingress=ingress, egress=egress
        )

    def _names(self) -> k8s.NetworkPolicyEgressRule:
        return k8s.NetworkPolicyEgressRule(to=self._dns(), ports=[*_ports(DNS), *_ports(DNS, protocol="UDP")])

    def _traces(self) -> list[k8s.NetworkPolicyEgressRule]:
        """Return the way to the collector of traces, if there is one."""
        service, _, port = self._stage.traces_to.partition(":")
        if not port:
            return []
        return [k8s.NetworkPolicyEgressRule(to=[_namespace(service.partition(".")[2])], ports=_ports(int(port)))]

    def _clients(self) -> list[k8s.NetworkPolicyPeer]:
        """Return the load balancer's network, or all pods of the cluster where there is none."""
        if self._stage.load_balancer is LoadBalancer.NONE:
            return [k8s.NetworkPolicyPeer(namespace_selector=k8s.LabelSelector())]
        return [_network(self._stage.vpc_cidr)]

    def _health_check_ports(self) -> list[int]:
        return [] if self._stage.load_balancer is LoadBalancer.NONE else [STATUS_PORT]

    def _metrics_readers(self) -> list[k8s.NetworkPolicyPeer]:
        keda = [_namespace(KEDA)] if self._stage.autoscaling is Autoscaling.REQUESTS else []
        return keda + ([_namespace(MONITORING)] if self._stage.monitoring else [])

    def _dns(self) -> list[k8s.NetworkPolicyPeer]:
        """Return CoreDNS: pods, and in EKS Auto Mode a process of the node behind an address of the service network."""
        system = k8s.NetworkPolicyPeer(
            namespace_selector=k8s.LabelSelector(match_labels={"kubernetes.io/metadata.name": "kube-system"}),
            pod_selector=k8s.LabelSelector(match_labels={"k8s-app": "kube-dns"}),
        )
        return [system] if self._stage.node is None else [system, _network(self._stage.service_cidr)]


def _from(peers: list[k8s.NetworkPolicyPeer], *ports: int) -> k8s.NetworkPolicyIngressRule:
    return k8s.NetworkPolicyIngressRule(from_=peers, ports=_ports(*ports))


def _ports(*ports: int, protocol: str = "TCP") -> list[k8s.NetworkPolicyPort]:
    return [k8s.NetworkPolicyPort(port=k8s.IntOrString.from_number(port), protocol=protocol) for port in ports]


def _pods(component: str) -> k8s.NetworkPolicyPeer:
    return k8s.NetworkPolicyPeer(pod_selector=pods.selector(component))


def _namespace(name: str) -> k8s.NetworkPolicyPeer:
    return k8s.NetworkPolicyPeer(
        namespace_selector=k8s.LabelSelector(match_labels={"kubernetes.io/metadata.name": name})
    )


def _network(cidr: str) -> k8s.NetworkPolicyPeer:
    return k8s.NetworkPolicyPeer(ip_block=k8s.IpBlock(cidr=cidr))
