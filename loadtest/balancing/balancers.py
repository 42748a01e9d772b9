"""The same gateway pods behind other balancers than HAProxy's shared queue: what differs is the balancing alone."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from cdk8s_manifests.__main__ import write
from cdk8s_manifests.main import render
from cdk8s_manifests.names import GATEWAY, GATEWAY_PORT, GATEWAY_PRIVATE_PORT, NAME, PODS, PROXY_PORT, host
from config import Stage
from loadtest.on_cluster.deploy import CONTAINER, MANAGER, POD, await_pods, namespace, service_url
from local_cluster.kubectl import Object, apply, run
from service.settings import Role

ENTRY = "entry"
# Of the stage's manifests, what a pod that generates needs.
PARTS = ("serviceaccount", "configmap", "deployment", "horizontalpodautoscaler")
QUEUE = 64  # of each pod, as service/settings.py has it where no HAProxy stands before it
HAPROXY_USER = 99
# Least outstanding requests and no queue, as an Application Load Balancer does it. One process, so it knows them all.
LEAST_CFG = """
global
    log stdout format raw local0
    nbthread 1
    maxconn 4000

defaults
    mode http
    option http-server-close
    option abortonclose
    option redispatch 1
    retries 3
    timeout connect 2s
    timeout client {idle}s
    timeout server {idle}s
    default-server init-addr none resolvers cluster resolve-prefer ipv4 check inter 1s fall 3 rise 1

resolvers cluster
    parse-resolv-conf
    accepted_payload_size 8192

frontend clients
    bind :{port}
    default_backend pods

backend pods
    balance leastconn
    option httpchk GET /readyz
    server-template pod {pods} {host}:{gateway} port {private}
"""


@contextmanager
def connection_random(stage: Stage, *, image: str, weights: str) -> Iterator[str]:
    """Run the stage's gateway pods behind a plain Service, for which kube-proxy picks a pod for each connection."""
    selector = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": GATEWAY}
    with _gateways(stage, image, weights, [_service(selector, GATEWAY_PORT)]) as url:
        yield url


@contextmanager
def least_outstanding(stage: Stage, *, image: str, weights: str) -> Iterator[str]:
    """Run the stage's gateway pods behind one HAProxy with `leastconn` and without limits, hence without a queue."""
    text = LEAST_CFG.format(
        idle=stage.idle_timeout,
        port=PROXY_PORT,
        pods=2 * stage.max_replicas,
        host=host(PODS, stage.namespace),
        gateway=GATEWAY_PORT,
        private=GATEWAY_PRIVATE_PORT,
    )
    labels = {"app.kubernetes.io/component": ENTRY}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": ENTRY}, "data": {"haproxy.cfg": text}}
    entry = [config, _haproxy(labels, stage.proxy_image), _service(labels, PROXY_PORT)]
    with _gateways(stage, image, weights, entry) as url:
        await_pods(stage.namespace, ENTRY, 1)
        yield url


@contextmanager
def _gateways(stage: Stage, image: str, weights: str, entry: Sequence[Object]) -> Iterator[str]:
    files = render(stage, image=image, weights={stage.model.name: weights}, context=None)
    chosen = {f"{part}-{GATEWAY}.yaml" for part in PARTS} | {f"service-{PODS}.yaml"}
    settings = f"configmap-{GATEWAY}.yaml"
    with namespace(stage.namespace), tempfile.TemporaryDirectory() as folder:
        parts = {name: text for name, text in files.items() if name in chosen}
        write({**parts, settings: alone(files[settings])}, Path(folder))
        run("kubectl", "apply", "--server-side", "--namespace", stage.namespace, "--filename", folder)
        apply([_placed(each, stage.namespace) for each in entry], MANAGER)
        await_pods(stage.namespace, GATEWAY, stage.min_replicas)
        yield service_url(stage.namespace, ENTRY)


def alone(settings: str) -> str:
    """Return a pod's settings for one without proxies: it does all itself, and its own queue is a long one."""
    config = yaml.safe_load(settings)
    config["data"] |= {"ROLE": str(Role.ALL), "MAX_QUEUE": str(QUEUE)}
    return str(yaml.safe_dump(config))


def _placed(made: Object, name: str) -> Object:
    return {**made, "metadata": {**made["metadata"], "namespace": name}}


def _service(selector: dict[str, str], port: int) -> Object:
    spec = {"selector": selector, "ports": [{"port": 80, "targetPort": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": ENTRY}, "spec": spec}


def _haproxy(labels: dict[str, str], image: str) -> Object:
    container = {
        "name": "haproxy",
        "image": image,
        "command": ["haproxy", "-db", "-f", "/etc/entry/haproxy.cfg"],
        "securityContext": CONTAINER,
        "resources": {"requests": {"cpu": "5m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/entry", "readOnly": True}],
        "readinessProbe": {"tcpSocket": {"port": PROXY_PORT}, "periodSeconds": 1},
    }
    spec = {
        "securityContext": {**POD, "runAsUser": HAPROXY_USER, "runAsGroup": HAPROXY_USER},
        "terminationGracePeriodSeconds": 2,
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": ENTRY}}],
    }
    template = {"metadata": {"labels": labels}, "spec": spec}
    deployment = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": ENTRY}, "spec": deployment}
