"""The stages that there are."""

from config.choices import Autoscaling, LoadBalancer
from config.errors import ConfigError
from config.model import GEMMA_270M
from config.node import C7I_2XLARGE, C7I_XLARGE
from config.stage import Stage

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
    smoke_at_least=3,
    smoke_at_most=20,  # so that it takes a minute from a merge to the verdict
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
