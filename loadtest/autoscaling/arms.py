"""The runs: a stage per autoscaler on the cluster, load on it, and what was seen.

The step has 4 s of mean service time instead of the ramp's 12 s, so that a run is short; what isn't ours to scale
keeps its own time: the autoscalers' 15 s, metrics-server's 15 s, and the start of a pod.
"""

import json
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from cdk8s_manifests.names import GATEWAY
from config import Autoscaling, Stage
from loadtest.address import Address
from loadtest.autoscaling.observer import Observer, observing
from loadtest.loads import LoadFailed, run_plans
from loadtest.on_cluster.deploy import sluice
from loadtest.on_cluster.images import engine_image, no_weights
from loadtest.on_cluster.stages import VARIATION, experiment_stage
from loadtest.plan import Plan
from loadtest.reporting.folder import Report
from loadtest.scenarios import SCENARIOS
from local_cluster.kubectl import ClusterError, eventually, get, kubectl

LEAST, MOST = 4, 10
SCALE = 1 / 3  # of the step's times: 4 s of service instead of 12
# A generation takes all of a pod's CPUs. Here it takes this share of one CPU, for ten pods have two CPUs.
CPUS = 0.12
BUSY_POD = 130  # millicores of a pod that generates, by `kubectl top`; what the gateway needs is in it
SETTLE = 30  # seconds without load before a run, for metrics-server to have seen the pods idle
# Scaling down takes 300 s and then one pod a minute; in the step, as long as here.
SHORT = {"stabilizationWindowSeconds": 30, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 10}]}
STEP_RATE, STEP_MINUTES = 0.55, 18  # questions a second at 1 ×, and how long it would take at a scale of 1
PERIODS = dict(zip(("up", "down"), SCENARIOS["step"].peak_shares, strict=True))  # of the step, by its whole time


@dataclass(frozen=True)
class Arm:
    """An autoscaler. cpu: the target in millicores where it isn't the manifests'."""

    what: str
    autoscaling: Autoscaling
    cpu: int = 0


ARMS = {
    "requests": Arm("KEDA, on what is in flight and queued, one request a pod", Autoscaling.REQUESTS),
    "cpu": Arm("an HPA on CPU, 100m of the 130m that a busy pod uses here", Autoscaling.CPU),
    # 100m of a pod with one CPU, which a generation uses all of: a tenth of it.
    "cpu-low": Arm("the same HPA where a busy pod uses ten times its target", Autoscaling.CPU, cpu=BUSY_POD // 10),
}


@dataclass(frozen=True)
class Outcome:
    """What came of a run. began: when the load began, in seconds since 1970."""

    began: float
    report: Report
    seen: Observer


def engine(*, seconds: float, load_seconds: float = 0, cpus: float = 0) -> str:
    """Build the stand-in engine and return the image's digest."""
    return engine_image(seconds=seconds, variation=VARIATION, load_seconds=load_seconds, cpus=cpus)


def autoscaled(namespace: str, autoscaling: Autoscaling, *, least: int, most: int, scale: float) -> Stage:
    """Return the experiments' stage with an autoscaler. Raises ClusterError where KEDA is missing."""
    if autoscaling is Autoscaling.REQUESTS and not _has("scaledobjects.keda.sh"):
        raise ClusterError("KEDA isn't on the cluster: install it, see docs/experiments.md")
    stage = experiment_stage(namespace, replicas=most, scale=scale)
    return replace(stage, autoscaling=autoscaling, min_replicas=least)


def run_step(arm: Arm, image: str) -> Outcome:
    """Have the load become three times as much and go back, under one autoscaler."""
    stage = autoscaled("sluice-x-step", arm.autoscaling, least=LEAST, most=MOST, scale=SCALE)
    with sluice(stage, image=image, weights=no_weights()) as url, observing(stage.namespace) as seen:
        _shorten(arm, stage.namespace)
        plan = Plan(
            scenario="step",
            target=Address(url),
            model=stage.model.name,
            name="step",
            out=Path(),
            rate=STEP_RATE,  # 55 % of what four pods sustain, so three times as much needs 6.6 of ten
            minutes=STEP_MINUTES,
            time_scale=SCALE,
            slo=36,  # three times the mean service time
            users=120,
            probe=False,
        )
        return _measure(plan, seen)


def run_ramp(image: str) -> Outcome:
    """Run the ramp, in its own time and with the manifests' own behaviour."""
    stage = autoscaled("sluice-x-ramp", Autoscaling.REQUESTS, least=LEAST, most=MOST, scale=1)
    with sluice(stage, image=image, weights=no_weights()) as url, observing(stage.namespace) as seen:
        plan = Plan(
            scenario="ramp",
            target=Address(url),
            model=stage.model.name,
            name="ramp-autoscaled",
            out=Path(),
            probe=False,
        )
        return _measure(plan, seen)


def _measure(plan: Plan, seen: Observer) -> Outcome:
    """Run the plan once the pods have been idle for a while. Raises LoadFailed."""
    time.sleep(SETTLE)
    [report] = run_plans([plan])
    if not report["valid"]:
        raise LoadFailed(f"the run is invalid: {'; '.join(report['invalid_because'])}")
    return Outcome(datetime.fromisoformat(report["started"]).timestamp(), report, seen)


def _shorten(arm: Arm, namespace: str) -> None:
    """Have the autoscaler scale down sooner, and follow the arm's own target."""
    behavior = {"scaleDown": SHORT}
    if arm.autoscaling is Autoscaling.REQUESTS:
        _patch("scaledobject", namespace, {"advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}}})
        eventually(lambda: _window(namespace) == SHORT["stabilizationWindowSeconds"], 30)
        return
    spec: dict[str, Any] = {"behavior": behavior}
    if arm.cpu:
        target = {"type": "AverageValue", "averageValue": f"{arm.cpu}m"}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    _patch("hpa", namespace, spec)


def _patch(kind: str, namespace: str, spec: dict[str, Any]) -> None:
    kubectl("patch", kind, GATEWAY, "--namespace", namespace, "--type", "merge", "--patch", json.dumps({"spec": spec}))


def _window(namespace: str) -> int | None:
    found = get("hpa", GATEWAY, namespace)
    return found["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] if found else None


def _has(crd: str) -> bool:
    return bool(kubectl("get", "crd", crd, "--ignore-not-found", "--output", "name"))
