import math
from collections.abc import Iterator
from dataclasses import dataclass

from config import GATEWAY_CPUS, ConfigError, LoadBalancer, Node, Stage
from cost.prices import Prices

HOURS = 730  # in a month, as AWS's own calculator has it
# Of stacks/monitoring.py: counted log lines, metrics that alarms look at (each of an expression's), composite alarms.
CUSTOM_METRICS, ALARM_METRICS, COMPOSITE_ALARMS = 3, 10, 2
KMS_KEYS = 1  # the cluster's, for its Secrets; ECR's and EBS's are AWS's own, which cost nothing


@dataclass(frozen=True)
class ModelNodes:
    """The nodes of a model's pods: for its fewest replicas and for its most, and what one costs an hour."""

    view: Stage
    node: Node
    fewest: int
    most: int
    hourly: float

    @property
    def pods(self) -> int:
        """Return how many of the model's pods a node holds."""
        return pods_per_node(self.view, self.node)


@dataclass(frozen=True)
class Line:
    """What one thing costs a month in dollars, at the stage's fewest replicas and at its most."""

    item: str
    counted: str
    minimum: float
    maximum: float


def estimate(stage: Stage, prices: Prices) -> list[Line]:
    """Return what a stage costs; raises ConfigError if it isn't one for AWS, or something it uses has no price."""
    return [*_compute(stage, model_nodes(stage, prices), prices), *_network(stage, prices), *_data(stage, prices)]


def model_nodes(stage: Stage, prices: Prices) -> list[ModelNodes]:
    """Return the nodes of each model, as if no two shared one; raises ConfigError if the stage isn't one for AWS."""
    found = []
    for view in stage.each_model:
        if view.node is None:
            raise ConfigError(f"stage {stage.name!r} isn't for AWS, so it costs nothing there")
        pods = pods_per_node(view, view.node)
        low, high = math.ceil(view.min_replicas / pods), math.ceil(view.max_replicas / pods)
        found.append(ModelNodes(view, view.node, low, high, prices[view.node.instance_type]))
    return found


def pods_per_node(stage: Stage, node: Node) -> int:
    """Return how many of a model's pods a node holds, by what they reserve. stage: as the model sees it."""
    requested = stage.requested_cpus or stage.cpus
    cpus = requested + min(requested, GATEWAY_CPUS)
    return min(int(node.free_cpus / cpus), node.free_mib // stage.pod_mib)


def savings(stage: Stage, prices: Prices) -> list[Line]:
    """Return what could be saved a month on instances. Auto Mode's fee stays that of the on-demand price."""
    low, high = _hourly(model_nodes(stage, prices))
    always = low + stage.proxy_replicas * prices[stage.platform_node.instance_type]
    plan, spot = (1 - prices.assume(name) for name in ("savings_plan_share", "spot_share"))
    return [
        _constant(
            "Compute Savings Plan", "one year, nothing upfront, for the nodes that always run", always * plan * HOURS
        ),
        Line(
            "Spot for the model's nodes",
            "AWS takes a node back with two minutes' notice, and its longer answers with it",
            low * spot * HOURS,
            high * spot * HOURS,
        ),
    ]


def _hourly(models: list[ModelNodes]) -> tuple[float, float]:
    """Return what all models' nodes cost an hour, with the fewest replicas and with the most."""
    return sum(each.fewest * each.hourly for each in models), sum(each.most * each.hourly for each in models)


def shares(stage: Stage, prices: Prices) -> dict[str, tuple[float, float]]:
    """Return each model's share of what the stage costs, by what its nodes cost: at the fewest and the most replicas.

    0 for a model without nodes then.
    """
    models = model_nodes(stage, prices)
    totals = _hourly(models)
    sides = {each.view.model.name: (each.fewest * each.hourly, each.most * each.hourly) for each in models}
    return {name: (low / totals[0] if totals[0] else 0.0, high / totals[1]) for name, (low, high) in sides.items()}


def _compute(stage: Stage, models: list[ModelNodes], prices: Prices) -> Iterator[Line]:
    """Yield the control plane, and the nodes of all pools: stacks/node_pools.py."""
    # Proxies stand on nodes of their own; everything else fits next to them.
    others, kind = stage.proxy_replicas, stage.platform_node.instance_type
    yield _constant("EKS control plane", "1 cluster", prices["eks_cluster"] * HOURS)
    for each in models:
        whose = each.view.model.name if len(models) > 1 else "the gateway"
        pods = f"{each.pods} pod{'s' * (each.pods > 1)} each"
        counted = f"{each.fewest} to {each.most} {each.node.instance_type}, {pods}"
        costs = (nodes * each.hourly * HOURS for nodes in (each.fewest, each.most))
        yield Line(f"Nodes for {whose}", counted, *costs)
    rest = others * prices[kind] * HOURS
    yield _constant("Nodes for the rest", f"{others} {kind}, one a proxy", rest)
    share = prices["auto_mode"]
    fees = [share * (hourly * HOURS + rest) for hourly in _hourly(models)]
    yield Line("EKS Auto Mode", f"{share:.0%} of the nodes' price", *fees)
    disk = prices.assume("node_disk_gb")
    gp3 = prices["gp3"] * disk
    low, high = others + sum(each.fewest for each in models), others + sum(each.most for each in models)
    yield Line("Disks of the nodes", f"{low} to {high} of {disk:g} GB gp3", low * gp3, high * gp3)


def _network(stage: Stage, prices: Prices) -> Iterator[Line]:
    gateways, traffic = stage.nat_gateways, prices.assume("nat_gb")
    yield _constant("NAT gateways", f"{gateways}", gateways * prices["nat_gateway"] * HOURS)
    yield _constant("NAT traffic", f"{traffic:g} GB", traffic * prices["nat_gb"])
    addresses = gateways
    if stage.load_balancer is not LoadBalancer.NONE:
        kind, units = stage.load_balancer.value, prices.assume("load_balancer_units")
        hourly = prices[kind] + units * prices[f"{kind}_unit"]
        yield _constant("Load balancer", f"1 {kind.upper()}, {units:g} unit on average", hourly * HOURS)
        addresses += stage.zones
    counted = f"{addresses}: each NAT gateway, and the load balancer in each zone"
    yield _constant("Public IPv4 addresses", counted, addresses * prices["public_ipv4"] * HOURS)


def _data(stage: Stage, prices: Prices) -> Iterator[Line]:
    yield _constant("KMS", f"{KMS_KEYS} key", KMS_KEYS * prices["kms_key"])
    secrets = 1 + bool(stage.api_keys_source)  # and Argo CD's token: stacks/secrets.py
    each = prices["secret"] + HOURS * 60 / 10_000 * prices["secret_reads"]
    yield _constant("Secrets", f"{secrets}, each read once a minute", secrets * each)
    control, flows, pods = (prices.assume(f"{name}_logs_gb") for name in ("control_plane", "flow", "pod"))
    counted = f"{control:g} GB of the control plane, {flows:g} GB of flows, {pods:g} GB of pods"
    written = control + flows + pods
    yield _constant("Logs, written", counted, written * prices["logs_ingested"])
    months = log_days(stage) / 30.4
    kept = written * months * prices.assume("log_compression")
    yield _constant("Logs, kept", f"{log_days(stage)} days: {kept:.0f} GB", kept * prices["logs_kept"])
    metrics = CUSTOM_METRICS * prices["custom_metric"]
    alarms = ALARM_METRICS * prices["alarm_metric"] + COMPOSITE_ALARMS * prices["composite_alarm"]
    counted = f"{CUSTOM_METRICS} metrics, alarms on {ALARM_METRICS}, {COMPOSITE_ALARMS} of them composite"
    yield _constant("Alarms", counted, metrics + alarms)
    weights = sum(view.model.weights_mib for view in stage.each_model) * 1.048576 / 1000
    images = prices.assume("releases_kept") * prices.assume("image_gb") + prices.assume("weights_kept") * weights
    yield _constant("Image repositories", f"{images:.1f} GB, shared by all stages", images * prices["ecr"])


def _constant(item: str, counted: str, usd: float) -> Line:
    return Line(item, counted, usd, usd)


def log_days(stage: Stage) -> int:
    """Return how long stacks/logs.py keeps the stage's logs."""
    return 365 if stage.keep_data else 30


def per_thousand(monthly: float, *, replicas: int, slots: int, seconds: float, busy: float) -> float | None:
    """Return dollars for 1,000 generations of `seconds` each in slots that are taken `busy` of the time, 0 to 1.

    None without replicas: then there are none.
    """
    generations = HOURS * 3600 * busy * replicas * slots / seconds
    return monthly / generations * 1000 if generations else None
