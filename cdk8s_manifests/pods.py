"""What both kinds of pods have in common: labels, security, resources, probes, and how they are spread and replaced."""

import json
from collections.abc import Mapping
from hashlib import sha256

from cdk8s import JsonPatch
from cdk8s_plus_36 import k8s

from cdk8s_manifests.names import NAME
from config import RELEASE_ANNOTATION


def labels(component: str) -> dict[str, str]:
    """Return the labels by which everything selects a component's pods."""
    return {"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": component}


def selector(component: str) -> k8s.LabelSelector:
    """Return the selector for a component's pods."""
    return k8s.LabelSelector(match_labels=labels(component))


def metadata(component: str) -> k8s.ObjectMeta:
    """Return the metadata of a pod template; name_release() adds to it."""
    return k8s.ObjectMeta(labels=labels(component))


def name_release(deployment: k8s.KubeDeployment, *files: Mapping[str, str]) -> None:
    """Name the release of a Deployment's pods: by a hash of all that they are, and of the ConfigMaps that they read.

    So they are also replaced when a ConfigMap changes.
    """
    made_of = json.dumps([deployment.to_json()["spec"]["template"], *files], sort_keys=True)
    annotations = {RELEASE_ANNOTATION: sha256(made_of.encode()).hexdigest()[:16]}
    deployment.add_json_patch(JsonPatch.add("/spec/template/metadata/annotations", annotations))


def release_variable() -> k8s.EnvVar:
    """Return the variable by which a gateway knows its release: see service/settings.py."""
    annotation = k8s.ObjectFieldSelector(field_path=f"metadata.annotations['{RELEASE_ANNOTATION}']")
    return k8s.EnvVar(name="RELEASE", value_from=k8s.EnvVarSource(field_ref=annotation))


def pod_security(user: int) -> k8s.PodSecurityContext:
    """Return what Pod Security `restricted` requires of a pod that runs as `user`."""
    return k8s.PodSecurityContext(
        run_as_non_root=True,
        run_as_user=user,
        run_as_group=user,
        seccomp_profile=k8s.SeccompProfile(type="RuntimeDefault"),
    )


def container_security() -> k8s.SecurityContext:
    """Return what Pod Security `restricted` requires of a container, and a read-only root file system."""
    return k8s.SecurityContext(
        allow_privilege_escalation=False,
        read_only_root_filesystem=True,
        capabilities=k8s.Capabilities(drop=["ALL"]),
    )


def resources(*, cpu_request: float, cpu_limit: float, mib: int) -> k8s.ResourceRequirements:
    """Return CPUs as given, and a memory limit that is reserved in full."""
    memory = k8s.Quantity.from_string(f"{mib}Mi")
    return k8s.ResourceRequirements(
        requests={"cpu": _cpus(cpu_request), "memory": memory},
        limits={"cpu": _cpus(cpu_limit), "memory": memory},
    )


def _cpus(cpus: float) -> k8s.Quantity:
    """Return CPUs as the API server writes them, so that nothing looks changed."""
    return k8s.Quantity.from_string(f"{cpus:.0f}" if cpus == int(cpus) else f"{cpus * 1000:.0f}m")


def probe(path: str, port: int, *, period: int, failures: int, successes: int | None = None) -> k8s.Probe:
    """Return a probe of an HTTP path; period in seconds."""
    return k8s.Probe(
        http_get=k8s.HttpGetAction(path=path, port=k8s.IntOrString.from_number(port)),
        period_seconds=period,
        failure_threshold=failures,
        success_threshold=successes,
        timeout_seconds=min(5, period + 1),
    )


def spread(component: str) -> list[k8s.TopologySpreadConstraint]:
    """Return constraints that spread a release's pods over zones and nodes where possible."""
    return [
        k8s.TopologySpreadConstraint(
            max_skew=1,
            topology_key=key,
            when_unsatisfiable="ScheduleAnyway",
            label_selector=selector(component),
            match_label_keys=["pod-template-hash"],
        )
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]


def rolling() -> k8s.DeploymentStrategy:
    """Return a rolling update in which a new pod is ready before an old one is removed."""
    return k8s.DeploymentStrategy(
        type="RollingUpdate",
        rolling_update=k8s.RollingUpdateDeployment(
            max_unavailable=k8s.IntOrString.from_number(0), max_surge=k8s.IntOrString.from_string("25%")
        ),
    )


def one_at_a_time(component: str) -> k8s.PodDisruptionBudgetSpec:
    """Return a budget by which node drains evict one pod at a time, and a pod that isn't ready at any time."""
    return k8s.PodDisruptionBudgetSpec(
        selector=selector(component),
        max_unavailable=k8s.IntOrString.from_number(1),
        unhealthy_pod_eviction_policy="AlwaysAllow",
    )
