"""argocd/admission.yaml on a real API server: what the stage renders gets in, and nothing else does."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from argocd.objects import GitRemote, admission, sluice
from cdk8s_manifests.load_balancer import annotations
from cdk8s_manifests.main import render
from config import DEV, LOCAL
from local_cluster.kubectl import ClusterError, Object, apply, eventually, get, kubectl
from tests.support.rendered import IMAGE, WEIGHTS

STAGE = replace(LOCAL, name="admission-test", namespace="sluice-test-admission", api_keys="api-keys")
MANAGER = "sluice-test"
REMOTE = GitRemote(repository="owner/name", repo_url="http://localhost/name.git")
OURS = f"{LOCAL.registry}/sluice/gateway@{IMAGE}"
METRICS = f"http://proxies.{STAGE.namespace}.svc.cluster.local:8404/"
CONTAINER: Object = {
    "name": "main",
    "image": OURS,
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}
NO_IMAGE = f"is no image of {LOCAL.registry} by its digest"
NO_VOLUME = "a volume may be a ConfigMap, an emptyDir, an image or the Secret with the API keys"
NO_SECRET = "a container may not have a Secret in its environment"
NO_TOLERATION = "a pod may tolerate the taint sluice/model only"
NO_SERVICE = "a Service must be of type ClusterIP"
NO_INGRESS = "an Ingress must be of the class sluice"
# As little of KEDA's as lets the API server take its objects.
SCALED_OBJECTS: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "scaledobjects.keda.sh"},
    "spec": {
        "group": "keda.sh",
        "names": {"kind": "ScaledObject", "plural": "scaledobjects", "singular": "scaledobject"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}
NO_METRICS = f"a ScaledObject may read {METRICS} only"


def deployment(container: Object | None = None, **pod: Any) -> Object:
    """Return a Deployment of one container, with other fields of it and of its pod."""
    security = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"securityContext": security, "containers": [CONTAINER | (container or {})], **pod}
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": spec}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": spec}


def pod(**container: Any) -> Object:
    made = deployment(container)["spec"]["template"]["spec"] | {"automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": made}


def volume(**source: Any) -> Object:
    return deployment(volumes=[{"name": "x", **source}])


def service(**spec: Any) -> Object:
    spec = {"ports": [{"port": 80}], "selector": {"app": "x"}, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": spec}


def ingress(class_: str = "sluice", **annotations: str) -> Object:
    spec = {"ingressClassName": class_, "defaultBackend": {"service": {"name": "x", "port": {"number": 80}}}}
    metadata = {"name": "x", "annotations": annotations}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec}


def scaled(type_: str = "metrics-api", **trigger: Any) -> Object:
    metadata = {"url": f"{METRICS}metrics", "valueLocation": "x", "targetValue": "1", **trigger.pop("metadata", {})}
    spec = {"scaleTargetRef": {"name": "sluice"}, "triggers": [{"type": type_, "metadata": metadata, **trigger}]}
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "x"}, "spec": spec}


REFUSED = {
    "another registry": (deployment({"image": f"docker.io/library/busybox@{IMAGE}"}), NO_IMAGE),
    "another registry, in a pod": (pod(image=f"docker.io/library/busybox@{IMAGE}"), NO_IMAGE),
    "a registry whose name begins as ours": (
        deployment({"image": f"{LOCAL.registry}.evil.example/x@{IMAGE}"}),
        NO_IMAGE,
    ),
    "a tag": (deployment({"image": f"{LOCAL.registry}/sluice/gateway:latest"}), NO_IMAGE),
    "more than a digest": (deployment({"image": f"{OURS}0"}), NO_IMAGE),
    "an init container": (deployment(initContainers=[CONTAINER | {"name": "init", "image": "x:1"}]), NO_IMAGE),
    "an image volume": (volume(image={"reference": f"docker.io/library/busybox@{IMAGE}"}), NO_IMAGE),
    "the node's network": (deployment(hostNetwork=True), "a pod may not use its node's network"),
    "the node's processes": (deployment(hostPID=True), "a pod may not use its node's network"),
    "the node's files": (volume(hostPath={"path": "/"}), NO_VOLUME),
    "the node's port": (deployment({"ports": [{"containerPort": 80, "hostPort": 80}]}), "may not have a hostPort"),
    "another Secret": (volume(secret={"secretName": "other"}), NO_VOLUME),
    "another Secret, projected": (volume(projected={"sources": [{"secret": {"name": "other"}}]}), NO_VOLUME),
    "a Secret's entry in the environment": (
        deployment({"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "api-keys", "key": "x"}}}]}),
        NO_SECRET,
    ),
    "a Secret as the environment": (deployment({"envFrom": [{"secretRef": {"name": "api-keys"}}]}), NO_SECRET),
    "another taint": (deployment(tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}]), NO_TOLERATION),
    "every taint": (deployment(tolerations=[{"operator": "Exists"}]), NO_TOLERATION),
    "a node by name": (deployment(nodeName="node-1"), "the scheduler chooses a pod's node"),
    "a node by name, in a pod": (pod() | {"spec": pod()["spec"] | {"nodeName": "node-1"}}, "the scheduler chooses"),
    "a load balancer of its own": (service(type="LoadBalancer"), NO_SERVICE),
    "a node port": (service(type="NodePort"), NO_SERVICE),
    "a name outside": (service(type="ExternalName", externalName="evil.example"), NO_SERVICE),
    "another's address": (service(externalIPs=["203.0.113.1"]), NO_SERVICE),
    "another class": (ingress("alb"), NO_INGRESS),
    "other networks": (ingress(**{"alb.ingress.kubernetes.io/inbound-cidrs": "0.0.0.0/0"}), NO_INGRESS),
    "other security groups": (ingress(**{"alb.ingress.kubernetes.io/security-groups": "sg-1"}), NO_INGRESS),
    "another's name": (ingress(**{"external-dns.alpha.kubernetes.io/hostname": "evil.example"}), NO_INGRESS),
}
REFUSED_BY_KEDA = {
    "metrics from elsewhere": (scaled(metadata={"url": "http://169.254.169.254/"}), NO_METRICS),
    "metrics from a user at elsewhere": (scaled(metadata={"url": METRICS[:-1] + "@evil.example/"}), NO_METRICS),
    "another trigger": (scaled("prometheus", metadata={"serverAddress": "http://evil.example"}), NO_METRICS),
    "credentials for it": (scaled(authenticationRef={"name": "x"}), NO_METRICS),
}
ALLOWED = {
    "our image": deployment(),
    "our proxy's image": deployment({"image": LOCAL.proxy_image}),
    "our keys": volume(secret={"secretName": "api-keys"}),
    "an environment": deployment(
        {
            "env": [
                {"name": "X", "value": "x"},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            ],
            "envFrom": [{"configMapRef": {"name": "x"}}],
        }
    ),
    "a pod's own token": volume(projected={"sources": [{"serviceAccountToken": {"path": "token"}}]}),
    "the model's nodes": deployment(tolerations=[{"key": "sluice/model", "operator": "Exists"}]),
    "a headless Service": service(clusterIP="None"),
    "our class": ingress(**annotations(replace(DEV, allowed_cidrs=()), tls=True)),
}


def complaint(obj: Object) -> str:
    """Return why the API server wouldn't take an object, "" if it would."""
    try:
        command = ["apply", "--server-side", "--dry-run=server", "--filename", "-"]
        kubectl("--namespace", STAGE.namespace, *command, stdin=json.dumps(obj))
    except ClusterError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module", autouse=True)
def policies() -> Iterator[None]:
    namespace, policies = sluice(STAGE, REMOTE)[0], admission(STAGE, LOCAL.registry)
    try:
        apply([namespace, *policies], MANAGER)
        eventually(lambda: complaint(service(type="NodePort")), 30)  # they are in force
        eventually(lambda: get("serviceaccount", "default", STAGE.namespace), 30)  # without which there are no pods
        yield
    finally:
        for each in policies:
            if "namespace" not in each["metadata"]:
                kubectl("delete", each["kind"], each["metadata"]["name"], "--ignore-not-found")
        kubectl("delete", "namespace", STAGE.namespace, "--ignore-not-found", "--wait=false")


def test_all_that_the_stage_renders_gets_in() -> None:
    for name, text in render(STAGE, image=IMAGE, weights={STAGE.model.name: WEIGHTS}, context=None).items():
        options = ["--namespace", STAGE.namespace, "apply", "--server-side", "--dry-run=server", "--filename", "-"]
        assert kubectl(*options, stdin=text), name


@pytest.mark.parametrize("what", ALLOWED)
def test_what_the_stage_may_need_gets_in(what: str) -> None:
    assert complaint(ALLOWED[what]) == ""


@pytest.mark.parametrize("what", REFUSED)
def test_nothing_else_gets_in_and_the_reason_is_told(what: str) -> None:
    obj, reason = REFUSED[what]
    assert reason in complaint(obj)


@pytest.fixture(scope="module")
def scaled_objects() -> Iterator[None]:
    """Have the kind ScaledObject known; KEDA itself has no part in admitting it."""
    if get("crd", SCALED_OBJECTS["metadata"]["name"], STAGE.namespace):
        yield
        return
    apply([SCALED_OBJECTS], MANAGER)
    try:
        eventually(lambda: complaint(scaled()) == "", 60)
        yield
    finally:
        kubectl("delete", "crd", SCALED_OBJECTS["metadata"]["name"])


@pytest.mark.parametrize("what", REFUSED_BY_KEDA)
def test_keda_reads_no_other_address(scaled_objects: None, what: str) -> None:
    obj, reason = REFUSED_BY_KEDA[what]
    assert complaint(scaled()) == ""
    assert reason in complaint(obj)


def test_the_namespace_has_room_for_a_stages_pods_and_no_more() -> None:
    (quota, *_) = admission(STAGE, LOCAL.registry)
    assert quota["spec"]["hard"]["pods"] == str(3 * (STAGE.max_replicas + STAGE.proxy_replicas))
    found = kubectl(
        "--namespace", STAGE.namespace, "get", "resourcequota", "sluice", "--output", "jsonpath={.spec.hard}"
    )
    assert json.loads(found) == quota["spec"]["hard"]
