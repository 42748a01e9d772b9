"""A proxy's Deployment is rolled under load behind a load balancer that learns late, as Kubernetes would do it."""

import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import mkdtemp

from cdk8s_manifests.haproxy_cfg import haproxy_cfg
from config import BALANCER_DRAIN, BALANCER_REGISTER, DEV, LOCAL, Autoscaling
from testbed.balancer import Balancer, balancer
from testbed.gateway import Served
from testbed.haproxy import Proxy, fronted
from testbed.stand_in import StandIn
from testbed.waiting import eventually
from tests.e2e.streams import Streams
from tests.support.needs import RunDocker

FACTOR = 30  # by which every time of the load balancer and of the fronts is divided: 180 s are 6
STAGE = replace(LOCAL, autoscaling=Autoscaling.REQUESTS, prestop=1)
CLIENTS = 4


@dataclass
class Rollout:
    """The proxies behind the load balancer, by their releases."""

    pod: Served
    folder: Path
    balancer: Balancer
    prestop: float
    gate: bool
    stack: ExitStack
    ending: list[tuple[Served, Proxy]] = field(default_factory=list)

    def start(self) -> tuple[Served, Proxy]:
        """Start a proxy, and return it once its containers are ready."""
        folder = Path(mkdtemp(dir=self.folder))
        return self.stack.enter_context(fronted(haproxy_cfg(STAGE), folder, [self.pod], prestop=self.prestop))

    def begin(self, *new: tuple[Served, Proxy]) -> None:
        """Add proxies to the Service's endpoints, and wait until their pods count as ready."""
        for front, _ in new:
            self.balancer.register(front.port)
        if self.gate:
            eventually(lambda: all(self.balancer.sends_to(front.port) for front, _ in new), 60)

    def end(self, old: tuple[Served, Proxy]) -> None:
        """Do what follows when a pod is deleted: all at once, its endpoint goes and its front gets SIGTERM."""
        self.balancer.deregister(old[0].port)
        old[0].process.send_signal(signal.SIGTERM)
        self.ending.append(old)

    def await_end(self) -> None:
        """Wait for the old fronts to end by themselves; their HAProxies are told to stop after that."""
        for front, proxy in self.ending:
            assert front.process.wait(60) == 0
            proxy.stop_softly()


def lost_in_a_rollout(
    pod: Served, folder: Path, *, prestop: float = DEV.front_prestop, gate: bool = True
) -> tuple[int, int]:
    """Replace every proxy under load; return how many requests had no complete answer, and how many there were."""
    times = {"register_seconds": BALANCER_REGISTER / FACTOR, "drain_seconds": BALANCER_DRAIN / FACTOR}
    with balancer(**times) as front_door, ExitStack() as stack:
        rollout = Rollout(pod, folder, front_door, prestop / FACTOR, gate, stack)
        old, new = ([rollout.start() for _ in range(DEV.proxy_replicas)] for _ in range(2))
        rollout.begin(*old)
        eventually(lambda: all(front_door.sends_to(front.port) for front, _ in old), 60)
        address = f"127.0.0.1:{front_door.port}"
        each, kept = Streams(address, {"prompt": "x"}), Streams(address, {"prompt": "x"}, keep_alive=True)
        with each.running(CLIENTS), kept.running(CLIENTS):
            for going, coming in zip(old, new, strict=True):
                rollout.begin(coming)
                rollout.end(going)
            rollout.await_end()
            served = each.outcomes.total()
            eventually(lambda: each.outcomes.total() > served + 2 * CLIENTS, 60)  # by the new proxies alone
        print(f"{each.outcomes} on a connection each, {kept.outcomes} on kept ones")
        return each.lost + kept.lost, each.outcomes.total() + kept.outcomes.total()


def test_a_rollout_behind_a_slow_load_balancer_loses_nothing(
    docker: RunDocker, make_server: Callable[..., Served], stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in.token_delay = 0.02
    lost, total = lost_in_a_rollout(make_server(role="back"), tmp_path)
    assert total > 200
    assert lost == 0


def test_a_front_that_closes_before_it_is_forgotten_loses_requests(
    docker: RunDocker, make_server: Callable[..., Served], stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in.token_delay = 0.02
    assert lost_in_a_rollout(make_server(role="back"), tmp_path, prestop=15)[0] > 0


def test_a_rollout_without_the_readiness_gate_loses_requests(
    docker: RunDocker, make_server: Callable[..., Served], stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in.token_delay = 0.02
    assert lost_in_a_rollout(make_server(role="back"), tmp_path, gate=False)[0] > 0
