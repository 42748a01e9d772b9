"""Every stage in code: what one pod can do, what waits how long, how it scales, and on what it runs.

The stacks and the manifests both read a Stage, so a number stands in one place; numbers that must agree are checked
when a Stage is made. Times are in seconds, sizes in MiB unless the name says otherwise.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network

# What the gateway's containers may use: `make bench` has it at 64 MiB and far below one CPU at 50 requests/s.
GATEWAY_CPUS = 0.5
GATEWAY_MIB = 256
# Measured: its two processes take 70 MiB before the first request, and 128 requests under way 21 MiB when each has
# 50 kB, 296 MiB when each has 1 MB.
GATEWAY_BASE_MIB = 128
COPIES = 3  # of a request that is read and checked: as it came, parsed, and as it goes on
KEPT_COPIES = 2.5  # of one that is under way: as it went out, and what it was made of
THREAD_MIB = 0.25  # of a request under way: its thread and its connections
# HAProxy without requests (28 MiB with 256 streams that wait), and one of its streams at its largest: two buffers, one
# more to send it again, and what describes it.
PROXY_MIB, PROXY_BASE_MIB = 256, 64
BUFFER_BYTES = 32_768
STREAM_MIB = (3 * BUFFER_BYTES + 8192) / 2**20
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
# Ollama without weights, context and prompt cache: the heap of its server (HEAP_MIB in launcher/ollama_process.py), and
# what its llama-server computes in. Measured with the small model and 8 slots busy: 95 and 130 MiB; the encoder of a
# model that sees takes some of the rest.
OLLAMA_OVERHEAD_MIB = 256 + 768
# Those of llama-server's --spec-type that need no second model: common/arg.cpp of llama.cpp b10488.
SPECULATIONS = ("none", "ngram-simple", "ngram-map-k", "ngram-map-k4v", "ngram-mod", "ngram-cache")
# Size relative to keys and values in 16 bits: a block of ggml has 32 values, 64 bytes, and a scale of 2 bytes.
KV_SHARES = {"f16": 1.0, "q8_0": 34 / 64, "q4_0": 18 / 64}
# Seconds for the gateway to end once its last stream is out: see graceful_timeout in service/gunicorn.conf.py.
EXIT_MARGIN = 10
# Seconds for which a load balancer may still send new requests to a pod that ends, from SIGTERM on. AWS promises none
# once a target deregisters, but its users see them: from an ALB with 40 s, no longer with 70 s
# (github.com/kubernetes-sigs/aws-load-balancer-controller/issues/2106), and at worst for 120 s (issue 2366 there).
BALANCER_DRAIN = 120
# Seconds until a load balancer sends requests to a new pod, which isn't Ready before (argocd/namespace.yaml): at worst
# 180 (issue 1834 there, by AWS's support), with an ALB two health checks.
BALANCER_REGISTER = 180
# Seconds after which a node that is drained ends its pods. `cdk destroy` gives up on a drain after 15 minutes.
NODE_DRAIN = 600

SUPPORTED_KUBERNETES = ("1.35", "1.36")  # of EKS: image volumes are on by default from 1.35, and stable in 1.36
IMAGE_REPOSITORY, WEIGHTS_REPOSITORY = "sluice/gateway", "sluice/weights"
PROXY_REPOSITORY = (
    "sluice/haproxy"  # our own copy of HAPROXY_IMAGE, under the same digest: .github/workflows/deliver.yml
)
PROJECT = "sluice"
# Node pools: for the pods that generate, which alone tolerate its taint, and for everything else.
MODEL_POOL, PLATFORM_POOL = "sluice", "platform"
MODEL_TAINT = "sluice/model"
ACCESS_MINUTES = 480  # after which an instance of `make access` ends itself
# github.com/docker-library/repo-info has the digest of each tag: repos/haproxy/remote/3.0.md, 25 September 2026.
HAPROXY_IMAGE = (
    "docker.io/library/haproxy:3.0.28@sha256:66eb31bc04389738bb6595597feab18733194b14238e4f4e0986013ed6e31dae"
)


def manifests_branch(stage: str) -> str:
    """Return the branch with a stage's rendered manifests, which only CI writes."""
    return f"stages/{stage}"


class ConfigError(ValueError):
    """Two numbers clash, or a value isn't allowed; the message names them and says which way to move."""


class Autoscaling(StrEnum):
    """What the number of replicas follows: the work there is, or the CPU that is used."""

    REQUESTS = "requests"
    CPU = "cpu"


class LoadBalancer(StrEnum):
    """What stands before HAProxy: an Application Load Balancer, or nothing.

    A Network Load Balancer takes 3 to 5 minutes to register a pod and as long to forget it (AWS's support, in
    github.com/kubernetes-sigs/aws-load-balancer-controller/issues/1834): meanwhile old fronts would answer for a new
    release. It also neither redirects to HTTPS nor balances by request.
    """

    ALB = "alb"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model by its name in Ollama, with what it takes in memory.

    weights_mib: its files. kv_kib_per_token: key and value of one token, 2 × layers × KV heads × head size × 2 bytes.
    """

    name: str
    weights_mib: int
    kv_kib_per_token: int


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


# moondream 1.8B Q4 with its vision projector; Phi's 24 layers, 32 heads of 64 (ollama.com/library/moondream).
MOONDREAM = Model(name="moondream", weights_mib=1660, kv_kib_per_token=192)
# Gemma 3 270M Q4_K_M: 18 layers, 1 KV head of 256.
GEMMA_270M = Model(name="gemma3-270m", weights_mib=242, kv_kib_per_token=18)

C7I_XLARGE = Node(instance_type="c7i.xlarge", cpus=4, memory_gib=8)
C7I_2XLARGE = Node(instance_type="c7i.2xlarge", cpus=8, memory_gib=16)
C7G_XLARGE = Node(instance_type="c7g.xlarge", cpus=4, memory_gib=8, arm64=True)
C7G_2XLARGE = Node(instance_type="c7g.2xlarge", cpus=8, memory_gib=16, arm64=True)
M7G_LARGE = Node(instance_type="m7g.large", cpus=2, memory_gib=8, arm64=True)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One deployment of Sluice. Raises ConfigError when its numbers don't agree."""

    name: str
    namespace: str = "sluice"

    # One pod
    model: Model = MOONDREAM
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
    max_in_flight: int = 128  # requests that wait or are answered
    front_mib: int = 1152

    # How many pods
    autoscaling: Autoscaling = Autoscaling.REQUESTS
    min_replicas: int
    max_replicas: int
    requests_per_replica: int = 3  # in flight and queued, for which one more replica is started
    proxy_replicas: int = 2

    # Who gets in, and who watches
    internal: bool = False  # the load balancer is reached from the VPC alone, not from the internet
    allowed_cidrs: tuple[str, ...] = ()  # the networks that reach the load balancer; () means all
    public: bool = False  # everybody on the internet may ask, without a key
    api_keys: str = ""  # the Secret whose keys.toml has the API keys; "" lets everybody in
    api_keys_source: str = ""  # what External Secrets fills that Secret from: a name in AWS Secrets Manager
    monitoring: bool = False  # a ServiceMonitor and a Grafana dashboard, where the cluster has who reads them

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
        self._check_ranges()
        self._check_deadlines()
        self._check_bytes()
        self._check_replicas()
        self._check_network()
        if self.node is not None:
            self._check_node(self.node)

    @property
    def cluster_name(self) -> str:
        """Return the name of the stage's EKS cluster."""
        return f"sluice-{self.name}"

    @property
    def access_name(self) -> str:
        """Return the name of the launch template for `make access`."""
        return f"{self.cluster_name}-access"

    @property
    def model_nodes(self) -> int:
        """Return how many nodes the pods that generate may have: one each, and a quarter more for a rolling update."""
        return math.ceil(self.max_replicas * 1.25)

    @property
    def platform_nodes(self) -> int:
        """Return how many nodes everything else may have: proxies stand apart, and one more while they roll."""
        return self.proxy_replicas + 1

    @property
    def vcpus(self) -> int:
        """Return the vCPUs that the stage's nodes may take at most, for which the account needs the quota."""
        model = self.model_nodes * self.node.cpus if self.node else 0
        return model + self.platform_nodes * self.platform_node.cpus

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

    def _check_ranges(self) -> None:
        positive = (
            "slots",
            "cpus",
            "context_length",
            "max_tokens",
            "queue_timeout",
            "generation_timeout",
            "prestop",
            "front_prestop",
            "start_timeout",
            "head_timeout",
            "body_timeout",
            "write_timeout",
            "max_body_mib",
            "payload_mib",
            "max_in_flight",
            "budget_usd",
        )
        for name in positive:
            self._need(getattr(self, name) >= 1, f"{name}={getattr(self, name)} must be at least 1")
        cache = self.prompt_cache_mib
        self._need(cache >= 0, f"prompt_cache_mib={cache} must be at least 0, which keeps no prompt")
        self._need(self.kv_type in KV_SHARES, f"kv_type={self.kv_type} is none of {', '.join(KV_SHARES)}")
        guesses = ", ".join(SPECULATIONS)
        self._need(self.speculation in SPECULATIONS, f"speculation={self.speculation} is none of {guesses}")
        self._need_less("max_tokens", self.max_tokens, "context_length")
        source = self.api_keys_source
        self._need(not source or bool(self.api_keys), f"api_keys_source={source} needs api_keys: name a Secret")
        version, allowed = self.kubernetes_version, ", ".join(SUPPORTED_KUBERNETES)
        self._need(version in SUPPORTED_KUBERNETES, f"kubernetes_version={version}: EKS and Sluice support {allowed}")

    def _check_deadlines(self) -> None:
        """Each deadline outlives those inside it, so that the innermost one answers, with its reason."""
        inside = self.queue_timeout + self.generation_timeout
        self._need_less("queue_timeout + generation_timeout", inside, "proxy_timeout")
        self._need_less("queue_timeout + proxy_timeout", self.longest_answer, "idle_timeout")
        self._need_less("idle_timeout", self.idle_timeout, "client_timeout")
        upload = self.head_timeout + self.body_timeout
        whole = "head_timeout + body_timeout + queue_timeout + proxy_timeout"
        self._need_less(whole, upload + self.longest_answer, "client_timeout")
        drain = f"prestop + queue_timeout + generation_timeout + {EXIT_MARGIN}"
        self._need_less(drain, self.prestop + inside + EXIT_MARGIN, "grace_period")
        self._need(
            self.load_balancer is LoadBalancer.NONE or self.front_prestop > BALANCER_DRAIN,
            f"front_prestop={self.front_prestop} must be more than the {BALANCER_DRAIN} s for which an ALB may send "
            f"requests to a pod that ends: raise front_prestop",
        )
        whole = f"front_prestop + {whole} + write_timeout + prestop + {EXIT_MARGIN}"
        for name, value in {"grace_period": self.grace_period, whole: self.proxy_grace_period}.items():
            self._need(
                self.node is None or value < NODE_DRAIN,
                f"{name} = {value} must be less than the {NODE_DRAIN} s that a node's pods get to drain: "
                f"lower {' or '.join(term for term in name.split(' + ') if not term.isdigit())}",
            )

    def _check_bytes(self) -> None:
        """What may be held at once fits the memory of who holds it, so that no caller's requests end others'."""
        body, receive, send = self.max_body_mib, self.receive_mib, self.send_mib
        at_once, payload, connections = self.max_in_flight, self.payload_mib, self.max_connections
        advice = "lower the first or raise the second"
        self._need(2 * body <= receive, f"max_body_mib={body} must be at most half of receive_mib={receive}: {advice}")
        self._need(at_once < connections, f"max_in_flight={at_once} must be less than max_connections={connections}")
        requests = math.ceil(at_once * (KEPT_COPIES * payload + THREAD_MIB))
        needed = GATEWAY_BASE_MIB + COPIES * receive + send + requests
        self._need(
            needed <= self.front_mib,
            f"receive_mib={receive}, send_mib={send} and max_in_flight={at_once} requests of payload_mib={payload} "
            f"need {needed} MiB of front_mib={self.front_mib}: lower one of them or raise front_mib",
        )
        streams = at_once * (1 + self.proxy_replicas)  # its own front's, and as the holder of the queue everybody's
        needed = math.ceil(PROXY_BASE_MIB + streams * STREAM_MIB)
        self._need(
            needed <= PROXY_MIB,
            f"max_in_flight={at_once} and proxy_replicas={self.proxy_replicas} need {needed} MiB of HAProxy's "
            f"PROXY_MIB={PROXY_MIB}: lower one of them or raise PROXY_MIB",
        )

    def _check_replicas(self) -> None:
        least = 0 if self.autoscaling is Autoscaling.REQUESTS else 1  # an HPA has no pods to measure at 0
        low, high = self.min_replicas, self.max_replicas
        self._need(low >= least, f"min_replicas={low} must be at least {least} with autoscaling={self.autoscaling}")
        self._need(1 <= high >= low, f"min_replicas={low} to max_replicas={high}: lower the first or raise the second")
        self._need(self.proxy_replicas >= 2, f"proxy_replicas={self.proxy_replicas} must be at least 2: one may go")
        wanted = self.requests_per_replica
        advice = "lower the first or raise the second"
        self._need(
            1 <= wanted <= self.slots, f"requests_per_replica={wanted} must be 1 to slots={self.slots}: {advice}"
        )

    def _check_network(self) -> None:
        vpc, services = self._network("vpc_cidr", self.vpc_cidr), self._network("service_cidr", self.service_cidr)
        self._need(not vpc.overlaps(services), f"vpc_cidr={vpc} and service_cidr={services} overlap: move one of them")
        self._need(16 <= vpc.prefixlen <= 20, f"vpc_cidr={vpc} must be /16 to /20: less runs out of pod addresses")
        self._need(self.zones in (2, 3), f"zones={self.zones} must be 2 or 3")
        gateways = self.nat_gateways
        self._need(1 <= gateways <= self.zones, f"nat_gateways={gateways} must be 1 to zones={self.zones}")
        for name in ("api_allowed_cidrs", "allowed_cidrs"):
            for cidr in getattr(self, name):
                network = self._network(name, cidr)
                self._need(network.prefixlen > 0, f"{name} has {cidr}, which is everybody: name your networks")
        exposed = self.load_balancer is not LoadBalancer.NONE and not self.internal
        self._need(
            not exposed or self.public or bool(self.api_keys or self.allowed_cidrs),
            "its load balancer faces the internet: set api_keys, allowed_cidrs or internal=True, or public=True if "
            "everybody may ask",
        )

    def _check_node(self, node: Node) -> None:
        free_cpus, free_mib = node.free_cpus, node.free_mib
        needs = f"a pod of cpus={self.cpus} needs {self.cpus + GATEWAY_CPUS} CPUs"
        offer = f"a {node.instance_type} has {free_cpus} to give"
        self._need(self.cpus + GATEWAY_CPUS <= free_cpus, f"{needs}, {offer}: lower cpus or take a larger node")
        needs = f"a pod of slots={self.slots} and context_length={self.context_length} needs {self.pod_mib} MiB"
        offer = f"a {node.instance_type} has {free_mib} to give"
        self._need(self.pod_mib <= free_mib, f"{needs}, {offer}: lower one of them or take a larger node")

    def _need_less(self, terms: str, value: int, limit: str) -> None:
        advice = f"lower {' or '.join(term for term in terms.split(' + ') if not term.isdigit())}, or raise {limit}"
        self._need(
            value < getattr(self, limit),
            f"{terms} = {value} must be less than {limit}={getattr(self, limit)}: {advice}",
        )

    def _network(self, name: str, cidr: str) -> IPv4Network:
        try:
            return IPv4Network(cidr)
        except ValueError as error:
            raise ConfigError(f"stage {self.name}: {name} has {cidr!r}, which is no network: {error}") from None

    def _need(self, holds: bool, message: str) -> None:
        if not holds:
            raise ConfigError(f"stage {self.name}: {message}")


LOCAL = Stage(
    name="local",
    model=GEMMA_270M,
    slots=4,
    cpus=1,
    requested_cpus=0.1,
    prompt_cache_mib=128,
    max_tokens=256,
    queue_timeout=20,
    generation_timeout=30,
    proxy_timeout=55,
    idle_timeout=80,
    client_timeout=95,
    head_timeout=5,
    body_timeout=10,
    write_timeout=10,
    receive_mib=32,
    send_mib=32,
    max_in_flight=64,
    front_mib=640,
    prestop=5,
    front_prestop=5,
    grace_period=70,
    start_timeout=60,
    autoscaling=Autoscaling.CPU,  # needs nothing but the cluster
    min_replicas=2,
    max_replicas=2,
    load_balancer=LoadBalancer.NONE,
    registry="localhost:5001",
    proxy_image="localhost:5001/haproxy:3.0",
)
DEV = Stage(
    name="dev",
    subdomain="dev",
    cpus=3,
    min_replicas=1,
    max_replicas=4,
    api_keys="api-keys",
    api_keys_source="sluice/dev/api-keys",
    load_balancer=LoadBalancer.ALB,
    node=C7I_XLARGE,
)
PROD = Stage(
    name="prod",
    slots=8,
    cpus=7,
    max_in_flight=192,  # eighty slots, and as many as they are through with in half a minute
    front_mib=1408,
    requests_per_replica=6,
    min_replicas=4,
    max_replicas=10,
    api_keys="api-keys",
    api_keys_source="sluice/prod/api-keys",
    load_balancer=LoadBalancer.ALB,
    node=C7I_2XLARGE,
    vpc_cidr="10.1.0.0/16",
    zones=3,
    nat_gateways=3,
    deletion_protection=True,
    keep_data=True,
    budget_usd=5000,
)
STAGES = {stage.name: stage for stage in (LOCAL, DEV, PROD)}


def find_stage(name: str) -> Stage:
    """Return the stage with this name; raises ConfigError with the names there are."""
    if name not in STAGES:
        raise ConfigError(f"stage {name!r} doesn't exist: {', '.join(STAGES)} do")
    return STAGES[name]
