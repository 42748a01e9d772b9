"""A stage's fields, what follows from them, and the stage as each of its models sees it."""

import math
from dataclasses import dataclass, replace

from config import checks
from config.choices import Autoscaling, LoadBalancer
from config.containers import COPIES, GATEWAY_BASE_MIB, GATEWAY_MIB, THREAD_MIB
from config.delays import EXIT_MARGIN
from config.errors import ConfigError
from config.model import KV_SHARES, MOONDREAM, OLLAMA_OVERHEAD_MIB, Model, ServedModel, full_name
from config.names import MODEL_POOL, PROJECT
from config.node import M7G_LARGE, Node


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One deployment of Sluice. Raises ConfigError when its numbers don't agree.

    Times are in seconds, sizes in MiB unless the name says otherwise.
    """

    name: str
    namespace: str = "sluice"

    # What it serves: the first model is the one for requests that name none
    model: Model = MOONDREAM
    aliases: tuple[str, ...] = ()  # other names of that model, such as one that clients ask for by themselves
    more_models: tuple[ServedModel, ...] = ()

    # One pod of the first model, and of each other one where it says nothing else
    slots: int = 4  # requests at once: Ollama's OLLAMA_NUM_PARALLEL, and HAProxy's maxconn of a pod
    cpus: int  # CPU limit of Ollama's container, and its threads
    requested_cpus: float | None = None  # where less than the limit is reserved; None reserves all of it
    context_length: int = 2048  # tokens a slot has for prompt and answer
    prompt_cache_mib: int = 512  # for prompts that have lost their slot: a whole context of the model, and a bit
    kv_type: str = "f16"  # of their keys and values: q8_0 takes half the memory, docs/performance.md
    speculation: str = "none"  # what guesses the next tokens, for the model to check: docs/performance.md
    max_tokens: int = 512

    # Who waits how long, from the inside out
    queue_timeout: int = 30  # in HAProxy's queue, and again at most in the pod's own
    generation_timeout: int = 120
    proxy_timeout: int = 155  # HAProxy's for a pod that sends nothing
    idle_timeout: int = 190  # the load balancer's
    client_timeout: int = 230  # what we ask clients to allow
    head_timeout: int = 10  # for a request's head to come, and
    body_timeout: int = 30  # for its body, before it takes anything from others
    write_timeout: int = 30  # for a client to take what is left of its complete answer
    prestop: int = 15  # from SIGTERM until no request is accepted: endpoints must have spread by then
    front_prestop: int = 150  # the same of a front, which the load balancer must have forgotten by then
    grace_period: int = 180
    start_timeout: int = 600  # from a new pod, its node included, to its first token: longer, and its release failed

    # What callers may send and hold, of each front
    max_body_mib: int = 8
    payload_mib: int = 2  # of a request as it goes on to a pod, its pictures made as small as the model sees them
    max_connections: int = 4096
    receive_mib: int = 64  # of requests that aren't whole, or not checked yet
    send_mib: int = 64  # of answers that clients haven't taken yet
    max_in_flight: int = 128  # requests that wait or are answered, of which each model has an equal share
    front_mib: int = 1152

    # How many pods
    autoscaling: Autoscaling = Autoscaling.REQUESTS
    min_replicas: int
    max_replicas: int
    requests_per_replica: int = 3  # in flight and queued, for which one more replica is started
    proxy_replicas: int = 2

    # The smoke test after each sync. At least: times count from its half on only, since the last release's pods drain
    # meanwhile, and a moment's disturbance isn't all that is seen. At most: a release is judged within three minutes;
    # what isn't proven by then is said.
    smoke_at_least: int = 10
    smoke_at_most: int = 170

    # Who gets in, and who watches
    internal: bool = False  # the load balancer is reached from the VPC alone, not from the internet
    allowed_cidrs: tuple[str, ...] = ()  # the networks that reach the load balancer; () means all
    public: bool = False  # everybody on the internet may ask, without a key
    api_keys: str = ""  # the Secret whose keys.toml has the API keys; "" lets everybody in
    api_keys_source: str = ""  # what External Secrets fills that Secret from: a name in AWS Secrets Manager
    monitoring: bool = False  # a ServiceMonitor and a Grafana dashboard, where the cluster has who reads them
    traces_to: str = ""  # SERVICE.NAMESPACE:PORT of a collector in the cluster, by OTLP over HTTP; "" for no traces
    traced_share: float = 0.1  # of the requests, whatever a caller's traceparent asks for

    # What they stand on
    load_balancer: LoadBalancer
    subdomain: str = ""  # of the owner's domain, which the stage is reached by; "" is the domain itself
    registry: str = ""  # host of the image repositories where it isn't the account's own ECR
    proxy_image: str = ""  # instead of the registry's copy of HAPROXY_IMAGE
    node: Node | None = None  # for the pods that generate; None: not on AWS
    platform_node: Node = M7G_LARGE  # for everything else: proxies, Argo CD, KEDA, metrics-server
    kubernetes_version: str = "1.36"
    vpc_cidr: str = "10.0.0.0/16"
    service_cidr: str = "172.20.0.0/16"
    zones: int = 2
    nat_gateways: int = 1
    api_allowed_cidrs: tuple[str, ...] = ()  # who reaches the cluster's API from outside; nobody by default
    deletion_protection: bool = False
    keep_data: bool = False  # logs and images outlive `cdk destroy`
    budget_usd: int = 1000  # a month; whoever gets alarms is told before it is spent

    def __post_init__(self) -> None:
        checks.check(self)

    @property
    def each_model(self) -> "tuple[Stage, ...]":
        """Return the stage as each of its models sees it, alone with its own pods; the default one first.

        Raises ConfigError where a model's numbers don't agree.
        """
        if not self.more_models:
            return (self,)
        share = self.max_in_flight // (1 + len(self.more_models))
        alone = replace(self, more_models=(), max_in_flight=share)
        return (alone, *(_view(alone, served) for served in self.more_models))

    def find(self, name: str) -> "Stage | None":
        """Return the stage as the model of this name or alias sees it, or None if it doesn't serve it."""
        for view in self.each_model:
            if full_name(name) in map(full_name, (view.model.name, *view.aliases)):
                return view
        return None

    def of(self, name: str) -> "Stage":
        """Return the stage as the model of this name or alias sees it. Raises ConfigError with the names there are."""
        if (view := self.find(name)) is None:
            served = ", ".join(view.model.name for view in self.each_model)
            raise ConfigError(f"stage {self.name} has no model {name!r}: it serves {served}")
        return view

    @property
    def shape(self) -> str:
        """Return what decides how fast a pod answers: releases' times are compared only where it is the same.

        Nothing where its CPUs aren't reserved: then others on the node decide it too.
        """
        if self.node is None or self.requested_cpus is not None:
            return ""
        engine = f"{self.kv_type} keys and values, speculation {self.speculation}"
        return f"{self.model.name} on {self.cpus} CPUs of {self.node.instance_type}, {engine}"

    @property
    def cluster_name(self) -> str:
        """Return the name of the stage's EKS cluster."""
        return f"sluice-{self.name}"

    @property
    def access_name(self) -> str:
        """Return the name of the launch template for `make access`."""
        return f"{self.cluster_name}-access"

    @property
    def model_nodes(self) -> dict[Node, int]:
        """Return how many nodes of each type the pods that generate may have: one each, more for a rolling update.

        That is a quarter more of each model's. The type of the default model's nodes comes first.
        """
        found: dict[Node, int] = {}
        for view in self.each_model:
            if view.node is not None:
                found[view.node] = found.get(view.node, 0) + math.ceil(view.max_replicas * 1.25)
        return found

    def pool(self, node: Node) -> str:
        """Return the name of the pool of the nodes of a type for pods that generate."""
        return MODEL_POOL if node == self.node else f"{MODEL_POOL}-{node.instance_type.replace('.', '-')}"

    @property
    def platform_nodes(self) -> int:
        """Return how many nodes everything else may have: proxies stand apart, and one more while they roll."""
        return self.proxy_replicas + 1

    @property
    def vcpus(self) -> int:
        """Return the vCPUs that the stage's nodes may take at most, for which the account needs the quota."""
        models = sum(count * node.cpus for node, count in self.model_nodes.items())
        return models + self.platform_nodes * self.platform_node.cpus

    @property
    def log_group(self) -> str:
        """Return the name of the log group of all the stage's pods."""
        return f"/{PROJECT}/{self.name}/pods"

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags of all that the stage has on AWS, by which its bill can be told from others'."""
        return {"project": PROJECT, "stage": self.name}

    @property
    def ollama_mib(self) -> int:
        """Return the memory limit of Ollama's container: weights, every slot's context, prompt cache, and the rest."""
        tokens = self.slots * self.context_length
        context = tokens * self.model.kv_kib_per_token * KV_SHARES[self.kv_type] / 1024
        return math.ceil(self.model.weights_mib + context) + self.prompt_cache_mib + OLLAMA_OVERHEAD_MIB

    @property
    def longest_answer(self) -> int:
        """Return the longest time in seconds that HAProxy holds a request: in its queue, then at a pod."""
        return self.queue_timeout + self.proxy_timeout

    @property
    def front_drain(self) -> int:
        """Return the longest time in seconds from SIGTERM to a front's last answer."""
        upload = self.head_timeout + self.body_timeout
        return self.front_prestop + upload + self.longest_answer + self.write_timeout

    @property
    def proxy_grace_period(self) -> int:
        """Return the grace period of a proxy's pod in seconds: its HAProxy stays open for others after its front."""
        return self.front_drain + self.prestop + EXIT_MARGIN

    @property
    def github_token(self) -> str:
        """Return the name in AWS Secrets Manager of the token with which Argo CD notifies GitHub."""
        return f"sluice/{self.name}/github-token"

    @property
    def back_in_flight(self) -> int:
        """Return the requests that a pod may hold: while the queue moves, each proxy may fill the pod's slots."""
        return self.slots * (1 + self.proxy_replicas)

    @property
    def back_mib(self) -> int:
        """Return the memory limit of the gateway in a pod, where each request may be as large as a front sends them."""
        requests = self.back_in_flight * (COPIES * self.payload_mib + 4 * THREAD_MIB)
        return max(GATEWAY_MIB, math.ceil(GATEWAY_BASE_MIB + requests))

    @property
    def pod_mib(self) -> int:
        """Return the memory limit of a pod's two containers together."""
        return self.ollama_mib + self.back_mib


def _view(alone: Stage, served: ServedModel) -> Stage:
    """Return the stage as one more model sees it. alone: as the default one does. Raises ConfigError."""
    try:
        return replace(alone, **served.changes)
    except ConfigError as error:
        raise ConfigError(f"model {served.model.name} of {error}") from None
