"""Systems on the cluster, each in a namespace of its own for as long as a block runs."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cdk8s_manifests.__main__ import write
from cdk8s_manifests.main import render
from cdk8s_manifests.names import GATEWAY, NAME, PROXY
from config import Stage
from launcher.console import say
from loadtest.on_cluster.images import reference
from local_cluster.kubectl import Object, allow_this_machine, apply, eventually, is_ready, kubectl, pods, run
from testbed.fetching import status

MANAGER = "sluice-experiments"
READY_SECONDS = 300
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
POD = {"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
OLLAMA_PORT, NAIVE_PORT = 11434, 5000


@contextmanager
def sluice(stage: Stage, *, image: str, weights: str, replicas: int | None = None) -> Iterator[str]:
    """Run the stage's own manifests until the block ends, and give the URL of its Service.

    image, weights: digests. replicas: how many pods to wait for where the stage's minimum isn't it.
    """
    files = render(stage, image=image, weights={stage.model.name: weights}, context=None)
    with namespace(stage.namespace), tempfile.TemporaryDirectory() as folder:
        write(files, Path(folder))
        allow_this_machine(stage.namespace, MANAGER)
        run("kubectl", "apply", "--server-side", "--namespace", stage.namespace, "--filename", folder)
        wanted = stage.min_replicas if replicas is None else replicas
        await_pods(stage.namespace, GATEWAY, wanted)
        await_pods(stage.namespace, PROXY, stage.proxy_replicas)
        yield service_url(stage.namespace, NAME)


@contextmanager
def naive(name: str, *, replicas: int, app: str, engine: str) -> Iterator[str]:
    """Run the naive predecessor in the namespace `name`, and give the URL of its Service.

    app: reference of its image. engine: digest of the stand-in's, which is the pod's second container. The readiness
    probe asks for `/`, which says nothing of the model.
    """
    variables = {"MODEL": "stand-in", "OLLAMA_HOST": f"http://127.0.0.1:{OLLAMA_PORT}"}
    web = container("app", app, variables, port=NAIVE_PORT)
    ollama = container("ollama", reference(engine), {"OLLAMA_HOST": f"127.0.0.1:{OLLAMA_PORT}"}, ["ollama", "serve"])
    with _deployment(name, [web, ollama], replicas=replicas, port=80, target=NAIVE_PORT) as url:
        yield url


@contextmanager
def ollama_helm(name: str, *, replicas: int, engine: str) -> Iterator[str]:
    """Run Ollama alone behind a Service, as the chart ollama-helm does, and give the Service's URL.

    Its defaults: port 11434, the probes ask for `/`, and Ollama's own one slot for a model.
    """
    variables = {"OLLAMA_HOST": f"0.0.0.0:{OLLAMA_PORT}", "OLLAMA_NUM_PARALLEL": "1"}
    ollama = container("ollama", reference(engine), variables, ["ollama", "serve"], port=OLLAMA_PORT)
    with _deployment(name, [ollama], replicas=replicas, port=OLLAMA_PORT, target=OLLAMA_PORT) as url:
        yield url


@contextmanager
def namespace(name: str) -> Iterator[None]:
    """Have a namespace with Pod Security `restricted` until the block ends; what an earlier run left goes first."""
    kubectl("delete", "namespace", name, "--ignore-not-found")
    apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}], MANAGER)
    try:
        yield
    finally:
        kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


def container(
    name: str, image: str, variables: dict[str, str], command: Sequence[str] = (), *, port: int = 0
) -> Object:
    """Return a container; one with a port is ready when that port answers `/`."""
    made: Object = {
        "name": name,
        "image": image,
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "securityContext": CONTAINER,
        "resources": {"requests": {"cpu": "5m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
    }
    if command:
        made["command"] = list(command)
    if port:
        made["readinessProbe"] = {"httpGet": {"path": "/", "port": port}, "periodSeconds": 5}
    return made


def await_pods(name: str, component: str, count: int) -> None:
    """Return once as many of a component's pods are ready. Raises ClusterError after five minutes."""
    say(f"{name}: waiting for {count} pods of {component}")
    eventually(lambda: len(ready(name, component)) == count, READY_SECONDS)


def await_answer(url: str) -> None:
    """Return once a GET is answered with 200. Raises ClusterError after a minute."""
    eventually(lambda: status(url) == 200, 60)


def ready(name: str, component: str) -> list[Any]:
    """Return a component's pods that are ready, the oldest first."""
    return [pod for pod in pods(name, component) if is_ready(pod)]


def service_url(name: str, service: str) -> str:
    """Return the URL at which this machine reaches a Service."""
    spec = json.loads(kubectl("get", "service", service, "--namespace", name, "--output", "json"))["spec"]
    return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}"


def engine_lines(name: str) -> list[dict[str, Any]]:
    """Return the lines that the engines of a namespace's pods have written: see testbed/stand_in/timed.py."""
    found = json.loads(kubectl("get", "pods", "--namespace", name, "--output", "json"))["items"]
    lines: list[dict[str, Any]] = []
    for pod in found:
        if any(
            each["name"] == "ollama" for kind in ("containers", "initContainers") for each in pod["spec"].get(kind, [])
        ):
            text = kubectl("logs", "--namespace", name, pod["metadata"]["name"], "--container", "ollama")
            lines += [json.loads(line) for line in text.splitlines()]
    return lines


@contextmanager
def _deployment(name: str, containers: list[Object], *, replicas: int, port: int, target: int) -> Iterator[str]:
    """Run pods behind a Service; the component is `pods`."""
    labels = {"app.kubernetes.io/component": "pods"}
    spec = {"securityContext": POD, "terminationGracePeriodSeconds": 2, "containers": containers}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "pods", "namespace": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "pods", "namespace": name},
        "spec": {"selector": labels, "ports": [{"port": port, "targetPort": target}]},
    }
    with namespace(name):
        apply([deployment, service], MANAGER)
        await_pods(name, "pods", replicas)
        yield service_url(name, "pods")
