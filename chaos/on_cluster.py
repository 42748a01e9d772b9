"""Sluice on the local cluster, with the stand-in engine: what `hold` attacks there and `cluster` breaks."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cdk8s_manifests.names import GATEWAY, PROXY
from chaos import systems
from chaos.targets import PRIVATE_PORT, AttackTarget
from config import IMAGE_REPOSITORY, LOCAL, Stage
from loadtest.on_cluster import deploy, images
from loadtest.on_cluster.stages import STAND_IN, StandInStage
from local_cluster.images import build_gateway, push, push_proxy
from local_cluster.kubectl import pods
from testbed.image import build_stand_in

OWN = [f"198.18.0.{last}" for last in range(1, 11)]  # RFC 2544's, which no network has
PODS = 2


@contextmanager
def target() -> Iterator[AttackTarget]:
    """Run a stage's own manifests on the local cluster; attacks come from addresses that this machine gets for them."""
    stage = chaos_stage("sluice-x-hold")
    with addresses(OWN), deploy.sluice(stage, image=cluster_image(), weights=images.no_weights()) as url:
        # The fronts and the pods behind them: both have the private port.
        ips = [pod["status"]["podIP"] for name in (PROXY, GATEWAY) for pod in pods(stage.namespace, name)]
        private = [f"http://{ip}:{PRIVATE_PORT}" for ip in ips]
        yield AttackTarget("cluster", url, stage.slots * PODS / systems.SECONDS, private, OWN, stage.queue_timeout)


def chaos_stage(namespace: str, replicas: int = PODS) -> Stage:
    """Return LOCAL with the stand-in engine and a fixed number of pods."""
    fixed = {"min_replicas": replicas, "max_replicas": replicas, "model": STAND_IN, "requested_cpus": 0.005}
    return StandInStage(**{**vars(LOCAL), **fixed, "namespace": namespace})


def cluster_image() -> str:
    """Build the image with the stand-in engine, push it and HAProxy's, and return its digest."""
    build_gateway("chaos")
    push_proxy()
    name = f"{LOCAL.registry}/{IMAGE_REPOSITORY}:chaos"
    build_stand_in(name, f"{name}-engine", systems.figures())
    return push(f"{name}-engine")


@contextmanager
def addresses(wanted: Sequence[str]) -> Iterator[None]:
    """Have these addresses on the loopback interface until the block ends, where root runs this."""
    try:
        for each in wanted:
            subprocess.run(["ip", "addr", "add", f"{each}/32", "dev", "lo"], check=False, capture_output=True)
        yield
    finally:
        for each in wanted:
            subprocess.run(["ip", "addr", "del", f"{each}/32", "dev", "lo"], check=False, capture_output=True)
