"""Numbers of a stage that must agree: each check names those that clash, and says which way to move."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from config.choices import Autoscaling, LoadBalancer
from config.containers import (
    COPIES,
    GATEWAY_BASE_MIB,
    GATEWAY_CPUS,
    KEPT_COPIES,
    PROXY_BASE_MIB,
    PROXY_MIB,
    STREAM_MIB,
    THREAD_MIB,
)
from config.delays import BALANCER_DRAIN, EXIT_MARGIN, NODE_DRAIN
from config.errors import ConfigError
from config.model import KV_SHARES, NAME, SPECULATIONS, ServedModel, full_name
from config.node import Node

if TYPE_CHECKING:
    from config.stage import Stage

COLLECTOR = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+:[0-9]{1,5}")
SUPPORTED_KUBERNETES = ("1.35", "1.36")  # of EKS: image volumes are on by default from 1.35, and stable in 1.36


def check(stage: "Stage") -> None:
    """Raise ConfigError where two of the stage's numbers clash, or one isn't allowed."""
    _check_ranges(stage)
    _check_deadlines(stage)
    _check_bytes(stage)
    _check_replicas(stage)
    _check_network(stage)
    _check_traces(stage)
    if stage.node is not None:
        _check_node(stage, stage.node)
    _check_models(stage)


def _check_models(stage: "Stage") -> None:
    """Several models have names of their own, nodes where the stage has them, and places enough in the fronts."""
    more = stage.more_models
    served = isinstance(more, tuple) and all(isinstance(each, ServedModel) for each in more)
    _need(stage, served, "more_models must be a tuple of ServedModel: (ServedModel(model=…),)")
    models = [stage.model.name, *(each.model.name for each in more)]
    for aliases in (stage.aliases, *(each.aliases for each in more)):
        text = isinstance(aliases, str)  # ("some") is one too, of which each letter would be an alias
        _need(stage, not text, f"aliases={aliases!r} is a text: write a tuple, ({aliases!r},)")
    _check_names(stage, models, [*stage.aliases, *(alias for each in more for alias in each.aliases)])
    if slug := _first_twice(each.model.slug for each in more):
        same = " and ".join(each.model.name for each in more if each.model.slug == slug)
        _need(stage, False, f"models {same} would both have pods named sluice-{slug}: give one another name in Ollama")
    for each in more:
        no_node = f"model {each.model.name} has a node, but the stage itself has node=None: it isn't on AWS"
        _need(stage, each.node is None or stage.node is not None, no_node)
    if more:
        _check_shares(stage, len(models))


def _check_names(stage: "Stage", models: Sequence[str], aliases: Sequence[str]) -> None:
    allowed = "a letter or digit, then letters, digits and any of ._:/-"
    for name in (*models, *aliases):
        _need(stage, NAME.fullmatch(name) is not None, f"{name!r} can't be a model's name in Ollama: {allowed}")
    if twice := _first_twice(models, full_name):
        _need(stage, False, f"model {twice} is there twice: name each model once")
    for alias in aliases:
        its_own = full_name(alias) not in map(full_name, models)
        _need(stage, its_own, f"alias {alias} is a model that the stage serves: remove it from aliases")
    if twice := _first_twice(aliases, full_name):
        _need(stage, False, f"alias {twice} is there twice: an alias stands for one model")


def _check_shares(stage: "Stage", models: int) -> None:
    """A front divides its places between the models, so that each can fill its pods whatever the others do."""
    at_once = stage.max_in_flight
    _need(stage, at_once >= models, f"max_in_flight={at_once} must be at least {models}, one for each model")
    for view in stage.each_model:
        slots = view.slots * view.max_replicas
        _need(
            stage,
            view.max_in_flight >= slots,
            f"max_in_flight={at_once} gives each of {models} models {view.max_in_flight}, and {view.model.name} has "
            f"{slots} slots in max_replicas={view.max_replicas} pods: raise the first or lower the second",
        )


def _first_twice(names: Iterable[str], same: Callable[[str], str] = str) -> str | None:
    """Return the first name that is the same as one before it, or None."""
    seen: set[str] = set()
    for name in names:
        if same(name) in seen:
            return name
        seen.add(same(name))
    return None


def _check_ranges(stage: "Stage") -> None:
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
        "smoke_at_least",
        "budget_usd",
    )
    for name in positive:
        _need(stage, getattr(stage, name) >= 1, f"{name}={getattr(stage, name)} must be at least 1")
    cache = stage.prompt_cache_mib
    _need(stage, cache >= 0, f"prompt_cache_mib={cache} must be at least 0, which keeps no prompt")
    _need(stage, stage.kv_type in KV_SHARES, f"kv_type={stage.kv_type} is none of {', '.join(KV_SHARES)}")
    guesses = ", ".join(SPECULATIONS)
    _need(stage, stage.speculation in SPECULATIONS, f"speculation={stage.speculation} is none of {guesses}")
    _need_less(stage, "max_tokens", stage.max_tokens, "context_length")
    source = stage.api_keys_source
    _need(stage, not source or bool(stage.api_keys), f"api_keys_source={source} needs api_keys: name a Secret")
    version, allowed = stage.kubernetes_version, ", ".join(SUPPORTED_KUBERNETES)
    _need(stage, version in SUPPORTED_KUBERNETES, f"kubernetes_version={version}: EKS and Sluice support {allowed}")


def _check_deadlines(stage: "Stage") -> None:
    """Each deadline outlives those inside it, so that the innermost one answers, with its reason."""
    inside = stage.queue_timeout + stage.generation_timeout
    _need_less(stage, "queue_timeout + generation_timeout", inside, "proxy_timeout")
    _need_less(stage, "queue_timeout + proxy_timeout", stage.longest_answer, "idle_timeout")
    _need_less(stage, "idle_timeout", stage.idle_timeout, "client_timeout")
    upload = stage.head_timeout + stage.body_timeout
    whole = "head_timeout + body_timeout + queue_timeout + proxy_timeout"
    _need_less(stage, whole, upload + stage.longest_answer, "client_timeout")
    _need_less(stage, "smoke_at_least", stage.smoke_at_least, "smoke_at_most")
    drain = f"prestop + queue_timeout + generation_timeout + {EXIT_MARGIN}"
    _need_less(stage, drain, stage.prestop + inside + EXIT_MARGIN, "grace_period")
    _need(
        stage,
        stage.load_balancer is LoadBalancer.NONE or stage.front_prestop > BALANCER_DRAIN,
        f"front_prestop={stage.front_prestop} must be more than the {BALANCER_DRAIN} s for which an ALB may send "
        f"requests to a pod that ends: raise front_prestop",
    )
    whole = f"front_prestop + {whole} + write_timeout + prestop + {EXIT_MARGIN}"
    for name, value in {"grace_period": stage.grace_period, whole: stage.proxy_grace_period}.items():
        _need(
            stage,
            stage.node is None or value < NODE_DRAIN,
            f"{name} = {value} must be less than the {NODE_DRAIN} s that a node's pods get to drain: "
            f"lower {' or '.join(term for term in name.split(' + ') if not term.isdigit())}",
        )


def _check_bytes(stage: "Stage") -> None:
    """What may be held at once fits the memory of who holds it, so that no caller's requests end others'."""
    body, receive, send = stage.max_body_mib, stage.receive_mib, stage.send_mib
    at_once, payload, connections = stage.max_in_flight, stage.payload_mib, stage.max_connections
    advice = "lower the first or raise the second"
    _need(stage, 2 * body <= receive, f"max_body_mib={body} must be at most half of receive_mib={receive}: {advice}")
    _need(stage, at_once < connections, f"max_in_flight={at_once} must be less than max_connections={connections}")
    requests = math.ceil(at_once * (KEPT_COPIES * payload + THREAD_MIB))
    needed = GATEWAY_BASE_MIB + COPIES * receive + send + requests
    _need(
        stage,
        needed <= stage.front_mib,
        f"receive_mib={receive}, send_mib={send} and max_in_flight={at_once} requests of payload_mib={payload} "
        f"need {needed} MiB of front_mib={stage.front_mib}: lower one of them or raise front_mib",
    )
    streams = at_once * (1 + stage.proxy_replicas)  # its own front's, and as the holder of the queue everybody's
    needed = math.ceil(PROXY_BASE_MIB + streams * STREAM_MIB)
    _need(
        stage,
        needed <= PROXY_MIB,
        f"max_in_flight={at_once} and proxy_replicas={stage.proxy_replicas} need {needed} MiB of HAProxy's "
        f"PROXY_MIB={PROXY_MIB}: lower one of them or raise PROXY_MIB",
    )


def _check_replicas(stage: "Stage") -> None:
    least = 0 if stage.autoscaling is Autoscaling.REQUESTS else 1  # an HPA has no pods to measure at 0
    low, high = stage.min_replicas, stage.max_replicas
    _need(stage, low >= least, f"min_replicas={low} must be at least {least} with autoscaling={stage.autoscaling}")
    _need(stage, 1 <= high >= low, f"min_replicas={low} to max_replicas={high}: lower the first or raise the second")
    _need(stage, stage.proxy_replicas >= 2, f"proxy_replicas={stage.proxy_replicas} must be at least 2: one may go")
    wanted = stage.requests_per_replica
    advice = "lower the first or raise the second"
    _need(
        stage, 1 <= wanted <= stage.slots, f"requests_per_replica={wanted} must be 1 to slots={stage.slots}: {advice}"
    )


def _check_network(stage: "Stage") -> None:
    vpc, services = _network(stage, "vpc_cidr", stage.vpc_cidr), _network(stage, "service_cidr", stage.service_cidr)
    _need(stage, not vpc.overlaps(services), f"vpc_cidr={vpc} and service_cidr={services} overlap: move one of them")
    _need(stage, 16 <= vpc.prefixlen <= 20, f"vpc_cidr={vpc} must be /16 to /20: less runs out of pod addresses")
    _need(stage, stage.zones in (2, 3), f"zones={stage.zones} must be 2 or 3")
    gateways = stage.nat_gateways
    _need(stage, 1 <= gateways <= stage.zones, f"nat_gateways={gateways} must be 1 to zones={stage.zones}")
    for name in ("api_allowed_cidrs", "allowed_cidrs"):
        for cidr in getattr(stage, name):
            network = _network(stage, name, cidr)
            _need(stage, network.prefixlen > 0, f"{name} has {cidr}, which is everybody: name your networks")
    exposed = stage.load_balancer is not LoadBalancer.NONE and not stage.internal
    _need(
        stage,
        not exposed or stage.public or bool(stage.api_keys or stage.allowed_cidrs),
        "its load balancer faces the internet: set api_keys, allowed_cidrs or internal=True, or public=True if "
        "everybody may ask",
    )


def _check_traces(stage: "Stage") -> None:
    to, share = stage.traces_to, stage.traced_share
    form = "SERVICE.NAMESPACE:PORT of a collector in the cluster, such as collector.monitoring:4318"
    _need(stage, not to or COLLECTOR.fullmatch(to) is not None, f"traces_to={to} must be {form}")
    _need(stage, 0 < share <= 1, f"traced_share={share} must be above 0, 1 at most")


def _check_node(stage: "Stage", node: Node) -> None:
    free_cpus, free_mib = node.free_cpus, node.free_mib
    needs = f"a pod of cpus={stage.cpus} needs {stage.cpus + GATEWAY_CPUS} CPUs"
    offer = f"a {node.instance_type} has {free_cpus} to give"
    _need(stage, stage.cpus + GATEWAY_CPUS <= free_cpus, f"{needs}, {offer}: lower cpus or take a larger node")
    needs = f"a pod of slots={stage.slots} and context_length={stage.context_length} needs {stage.pod_mib} MiB"
    offer = f"a {node.instance_type} has {free_mib} to give"
    _need(stage, stage.pod_mib <= free_mib, f"{needs}, {offer}: lower one of them or take a larger node")


def _need_less(stage: "Stage", terms: str, value: int, limit: str) -> None:
    advice = f"lower {' or '.join(term for term in terms.split(' + ') if not term.isdigit())}, or raise {limit}"
    _need(
        stage,
        value < getattr(stage, limit),
        f"{terms} = {value} must be less than {limit}={getattr(stage, limit)}: {advice}",
    )


def _network(stage: "Stage", name: str, cidr: str) -> IPv4Network:
    try:
        return IPv4Network(cidr)
    except ValueError as error:
        raise ConfigError(f"stage {stage.name}: {name} has {cidr!r}, which is no network: {error}") from None


def _need(stage: "Stage", holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(f"stage {stage.name}: {message}")
