"""What keeps a stage that was deployed from answering, from scaling, or from being judged."""

import json
import os
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from cdk8s_manifests.names import NAME, PROXY, object_names
from config import Stage
from delivery.address import address
from delivery.branch import Refused
from delivery.doctor.check import Check, Object, Patient, Unreachable, ask_github

ARGO_CD = "argocd"  # the namespace
# Of the condition that EKS Auto Mode adds to a pod's readiness gates: target-health.elbv2.k8s.aws/…, as the AWS Load
# Balancer Controller has it, from whose code Auto Mode's comes.
GATE = "target-health."


def cluster(patient: Patient) -> Iterator[str]:
    """kubectl reaches the cluster."""
    name = patient.stage.name
    try:
        patient.kubectl("get", "namespace", patient.stage.namespace)
    except Unreachable as error:
        yield (
            f"kubectl doesn't reach the cluster of {name}: run make access STAGE={name} in another terminal, and set "
            f"KUBECONFIG as it says ({error})"
        )


def applications(patient: Patient) -> Iterator[str]:
    """Argo CD has applied what Git says, and it works."""
    found = _items(patient, "applications.argoproj.io", ARGO_CD)
    if not any(each["metadata"]["name"] == _application(patient.stage) for each in found):
        yield f"Argo CD has no application {_application(patient.stage)}: run make deploy STAGE={patient.stage.name}"
    for each in found:
        status = each.get("status", {})
        states = status.get("sync", {}).get("status"), status.get("health", {}).get("status")
        if states != ("Synced", "Healthy"):
            reasons = "; ".join(condition["message"] for condition in status.get("conditions", ()))
            said = f" ({reasons})" if reasons else ""
            yield f"{each['metadata']['name']} is {states[0]} and {states[1]}: see docs/argocd.md{said}"


def pods(patient: Patient) -> Iterator[str]:
    """Every pod of the stage is ready."""
    for pod in _pods(patient):
        if not _is(pod, "Ready"):
            yield f"pod {pod['metadata']['name']} isn't ready: {_why(pod)}"


def image_volume(patient: Patient) -> Iterator[str]:
    """A pod of each model has mounted the weights, which are an image."""
    for component, view in _models(patient.stage).items():
        if view.min_replicas and not any(
            _is(pod, "Initialized") and any("image" in volume for volume in pod["spec"]["volumes"])
            for pod in _pods(patient, component)
        ):
            yield (
                f"no pod has mounted the weights of {view.model.name}: kubectl -n {view.namespace} describe pods "
                f"-l app.kubernetes.io/component={component} says why"
            )


def readiness_gate(patient: Patient) -> Iterator[str]:
    """The load balancer has a say in whether a proxy is ready, so that none is replaced too early."""
    for pod in _pods(patient, PROXY):
        if not any(gate["conditionType"].startswith(GATE) for gate in pod["spec"].get("readinessGates", ())):
            yield (
                f"pod {pod['metadata']['name']} has no readiness gate of the load balancer: the namespace needs the "
                "label in argocd/namespace.yaml; then delete the pod"
            )


def targets(patient: Patient) -> Iterator[str]:
    """The load balancer sends requests to every proxy."""
    host, elb = _balancer(patient), patient.client("elbv2")
    if not host:
        yield f"the Ingress {NAME} has no load balancer: kubectl -n {patient.stage.namespace} describe ingress {NAME}"
        return
    pages = elb.get_paginator("describe_load_balancers").paginate()
    arns = [each["LoadBalancerArn"] for page in pages for each in page["LoadBalancers"] if each["DNSName"] == host]
    for arn in arns:
        for group in elb.describe_target_groups(LoadBalancerArn=arn)["TargetGroups"]:
            for each in elb.describe_target_health(TargetGroupArn=group["TargetGroupArn"])["TargetHealthDescriptions"]:
                health = each["TargetHealth"]
                if health["State"] not in ("healthy", "draining"):
                    why = health.get("Description") or health.get("Reason", "no reason given")
                    yield f"target {each['Target']['Id']} of the load balancer is {health['State']}: {why}"
    if not arns:
        yield f"the account has no load balancer {host} in {patient.context.region}, which the Ingress {NAME} names"


def autoscaler(patient: Patient) -> Iterator[str]:
    """The autoscaler of each model reads the number by which it scales."""
    found = _items(patient, "horizontalpodautoscalers", patient.stage.namespace)
    there = {each["metadata"]["name"] for each in found}
    for component in _models(patient.stage):
        if component not in there:
            look = f"kubectl -n {patient.stage.namespace} describe scaledobjects"
            yield f"no HorizontalPodAutoscaler {component} is there: {look}"
    for each in found:
        for condition in each.get("status", {}).get("conditions", ()):
            at_zero = condition.get("reason") == "ScalingDisabled"
            if condition["type"] == "ScalingActive" and condition["status"] != "True" and not at_zero:
                yield f"autoscaler {each['metadata']['name']} doesn't scale: {condition.get('message')}"


def secrets(patient: Patient) -> Iterator[str]:
    """External Secrets has brought every secret into the cluster."""
    for namespace in (ARGO_CD, patient.stage.namespace):
        for each in _items(patient, "externalsecrets.external-secrets.io", namespace):
            if not _is(each, "Ready"):
                name = each["metadata"]["name"]
                yield f"secret {name} in {namespace} isn't there: {_message(each, 'Ready')}: see docs/operations.md"


def notice(patient: Patient) -> Iterator[str]:
    """GitHub got Argo CD's notice of the release that is live, and its smoke test passed."""
    found = {each["metadata"]["name"]: each for each in _items(patient, "applications.argoproj.io", ARGO_CD)}
    state = found.get(_application(patient.stage), {}).get("status", {}).get("operationState", {})
    revision = state.get("syncResult", {}).get("revision")
    if not revision:
        yield "nothing was synced yet: there is no release"
        return
    context = patient.context
    runs = f"/repos/{context.github_owner}/{context.github_repository}/actions/workflows/smoke.yml/runs"
    title = f"smoke of {patient.stage.name} at {revision}"
    told = ask_github(patient, f"{runs}?event=repository_dispatch&per_page=100")["workflow_runs"]
    about = [each for each in told if each["display_title"] == title]
    if not about:
        yield f"GitHub got no notice of {revision[:12]}: see The token in docs/argocd.md"
    elif about[0]["status"] == "completed" and about[0]["conclusion"] != "success":
        yield f"the smoke test of {revision[:12]} ended with {about[0]['conclusion']}: {about[0]['html_url']}"


def answer(patient: Patient) -> Iterator[str]:
    """A question gets an answer, from here and with the key in API_KEY."""
    stage = patient.stage
    try:
        url = patient.url or address(stage, patient.context, [f"http://{_balancer(patient)}"])
    except Refused as error:
        yield str(error)
        return
    key = os.environ.get("API_KEY")
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    body = json.dumps({"prompt": "Say hello.", "max_tokens": 8}).encode()
    try:
        with urlopen(Request(f"{url}/generate", body, headers), timeout=stage.client_timeout) as reply:  # noqa: S310
            json.load(reply)["response"]
    except HTTPError as error:
        if error.code == 401 and not key:
            yield f"{url} asks for a key: set API_KEY to one of {stage.name}, and run this again"
        else:
            yield f"{url}/generate answers {error.code}: {error.read()[:300].decode(errors='replace')}"
    except (OSError, HTTPException, ValueError, LookupError) as error:
        yield f"{url}/generate gives no answer: {error}"


CHECKS = (
    Check("cluster", cluster, vital=True),
    Check("applications", applications),
    Check("secrets", secrets),
    Check("pods", pods),
    Check("image volume", image_volume),
    Check("readiness gate", readiness_gate),
    Check("targets", targets),
    Check("autoscaler", autoscaler),
    Check("notice", notice),
    Check("answer", answer),
)


def _application(stage: Stage) -> str:
    """Return the name in argocd/application.yaml."""
    return f"{NAME}-{stage.name}"


def _models(stage: Stage) -> dict[str, Stage]:
    """Return the stage as each model sees it, by the component of the model's pods."""
    return {object_names(stage, view).component: view for view in stage.each_model}


def _items(patient: Patient, kind: str, namespace: str, *more: str) -> list[Object]:
    found: list[Object] = patient.kubectl("get", kind, "--namespace", namespace, *more)["items"]
    return found


def _pods(patient: Patient, component: str = "") -> list[Object]:
    """Return the stage's pods, or a component's, that aren't about to end."""
    label = f"app.kubernetes.io/name={NAME}" + (f",app.kubernetes.io/component={component}" if component else "")
    found = _items(patient, "pods", patient.stage.namespace, "--selector", label)
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def _balancer(patient: Patient) -> str:
    """Return the name of the load balancer that the Ingress has, or ""."""
    for each in _items(patient, "ingresses.networking.k8s.io", patient.stage.namespace):
        for point in each.get("status", {}).get("loadBalancer", {}).get("ingress", ()):
            return str(point.get("hostname", ""))
    return ""


def _condition(obj: Object, kind: str) -> Any:
    conditions = obj.get("status", {}).get("conditions", ())
    return next((each for each in conditions if each["type"] == kind), {})


def _is(obj: Object, kind: str) -> bool:
    return bool(_condition(obj, kind).get("status") == "True")


def _message(obj: Object, kind: str) -> str:
    return str(_condition(obj, kind).get("message", "its controller says nothing"))


def _why(pod: Object) -> str:
    """Return what the pod waits for: a container, a node, a readiness gate."""
    status = pod["status"]
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        if waiting := container["state"].get("waiting"):
            said = f": {waiting['message']}" if "message" in waiting else ""
            return f"{container['name']} waits, {waiting.get('reason')}{said}"
    for kind in ("PodScheduled", "Ready"):
        if not _is(pod, kind):
            return _message(pod, kind)
    return "no reason given"
