"""The stage of the experiments: one slot a pod, deadlines for a service time of 12 s, and next to no memory."""

import argparse
import math
from dataclasses import dataclass

from command_line import number
from config import LOCAL, Model, Stage

SECONDS, VARIATION = 12.0, 0.5  # of the engine: mean service time, and its deviation relative to the mean
STAND_IN = Model(name="stand-in", weights_mib=1, kv_kib_per_token=1)


def add_time_scale(parser: argparse.ArgumentParser) -> None:
    """Add the factor of all times."""
    help_ = "multiplies every time; default: 1"
    parser.add_argument("--time-scale", type=number(0.001, 10), default=1.0, metavar="F", help=help_)


@dataclass(frozen=True, kw_only=True)
class StandInStage(Stage):
    """A stage whose engine holds no model, so that thirty pods fit on one machine."""

    @property
    def ollama_mib(self) -> int:
        """Return the memory limit of the engine's container: it takes 25 MiB."""
        return 64


def experiment_stage(namespace: str, *, replicas: int, scale: float = 1) -> Stage:
    """Return the stage with a fixed number of pods; scale multiplies every time.

    The service time is at most 3 x 12 s, and a client waits 90 s: so 55 s of them may pass in the queue.
    """
    queue, generation = math.ceil(55 * scale), math.ceil(40 * scale)
    changes = {
        "namespace": namespace,
        "model": STAND_IN,
        "slots": 1,
        "requests_per_replica": 1,
        "requested_cpus": 0.005,
        "min_replicas": replicas,
        "max_replicas": replicas,
        "queue_timeout": queue,
        "generation_timeout": generation,
        "proxy_timeout": queue + generation + 1,
        "idle_timeout": 2 * queue + generation + 2,
        "client_timeout": LOCAL.head_timeout + LOCAL.body_timeout + 2 * queue + generation + 3,
        "grace_period": LOCAL.prestop + queue + generation + 11,
    }
    return StandInStage(**{**vars(LOCAL), **changes})
