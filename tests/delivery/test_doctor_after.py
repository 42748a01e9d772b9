"""Each fault of a deployed stage that `make doctor` looks for is staged, and found with what to do."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from moto import mock_aws

from config import DEV
from context import Context
from delivery.doctor import after, before
from delivery.doctor.__main__ import everything, results
from delivery.doctor.check import Object, Patient, Unreachable, kubectl
from tests.support.aws import CONTEXT, REGION
from tests.support.several_models import EMBEDDING, TWO_MODELS

OWNER = Context.read(CONTEXT.get)
REVISION = "a" * 40
Answers = dict[str, tuple[int, Any]]  # a status and a JSON by path
READY = [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}]
DENIED = {"type": "Ready", "status": "False", "message": "could not get secret data: AccessDenied"}


class Cluster(dict[str, list[Object]]):
    """Objects by namespace and kind, as kubectl returns them."""

    def get_objects(self, *arguments: str) -> Any:
        """Answer `kubectl get`."""
        if arguments[1] == "namespace":
            return {}
        _, kind, _, namespace, *selector = arguments
        found = self.get(f"{namespace}/{kind.partition('.')[0]}", [])
        if selector:
            wanted = dict(pair.split("=") for pair in selector[1].split(","))
            found = [each for each in found if wanted.items() <= each["metadata"]["labels"].items()]
        return {"items": found}

    def only(self, where: str) -> Object:
        """Return the one object there is."""
        [found] = self[where]
        return found


def pod(component: str, **spec: Any) -> Object:
    """Return a pod of a component that is ready."""
    labels = {"app.kubernetes.io/name": "sluice", "app.kubernetes.io/component": component}
    return {
        "metadata": {"name": f"{component}-1", "labels": labels},
        "spec": {"volumes": [], **spec},
        "status": {"conditions": READY},
    }


@pytest.fixture
def cluster() -> Cluster:
    """A stage that works."""
    weights = {"name": "weights", "image": {}}
    gate = [{"conditionType": "target-health.elbv2.k8s.aws/k8s-sluice"}]
    status = {
        "sync": {"status": "Synced"},
        "health": {"status": "Healthy"},
        "operationState": {"syncResult": {"revision": REVISION}},
    }
    active = {"type": "ScalingActive", "status": "True"}
    secret = {"metadata": {"name": "api-keys"}, "status": {"conditions": READY}}
    return Cluster(
        {
            "argocd/applications": [{"metadata": {"name": "sluice-dev"}, "status": status}],
            "sluice/pods": [pod("sluice", volumes=[weights]), pod("proxy", readinessGates=gate)],
            "sluice/horizontalpodautoscalers": [{"metadata": {"name": "sluice"}, "status": {"conditions": [active]}}],
            "sluice/externalsecrets": [secret],
            "sluice/ingresses": [],
        }
    )


@pytest.fixture
def healths() -> list[dict[str, str]]:
    """The health of the load balancer's targets: moto calls all of them healthy."""
    return [{"State": "healthy"}]


@contextmanager
def site(answers: Answers) -> Iterator[str]:
    """Serve a status and a JSON by path."""

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers[self.path.partition("?")[0]]
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


RUNS = "/repos/octo/sluice/actions/workflows/smoke.yml/runs"


@pytest.fixture
def answers() -> Answers:
    """What GitHub and the stage answer."""
    title = f"smoke of dev at {REVISION}"
    run = {"display_title": title, "status": "completed", "conclusion": "success", "html_url": "https://x/run"}
    return {RUNS: (200, {"workflow_runs": [run]}), "/generate": (200, {"response": "Hello!"})}


@pytest.fixture(scope="module")
def aws() -> Iterator[tuple[Callable[[str], Any], str]]:
    """An account with a load balancer: its clients, and the load balancer's name."""
    with mock_aws():
        session = boto3.Session("testing", "testing", region_name=REGION)
        client = cache(session.client)
        yield client, balancer(client)


@pytest.fixture
def patient(
    cluster: Cluster,
    healths: list[dict[str, str]],
    answers: Answers,
    aws: tuple[Callable[[str], Any], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Patient]:
    """A stage in moto, on a cluster of dicts."""
    monkeypatch.delenv("API_KEY", raising=False)
    real, host = aws
    cluster["sluice/ingresses"] = [{"status": {"loadBalancer": {"ingress": [{"hostname": host}]}}}]

    class Balancers:
        def __getattr__(self, name: str) -> Any:
            return getattr(real("elbv2"), name)

        def describe_target_health(self, **_: str) -> Any:
            told = [{"Target": {"Id": "10.0.0.7"}, "TargetHealth": each} for each in healths]
            return {"TargetHealthDescriptions": told}

    def client(service: str) -> Any:
        return Balancers() if service == "elbv2" else real(service)

    with site(answers) as url:
        yield Patient(stage=DEV, context=OWNER, client=client, github=url, kubectl=cluster.get_objects, url=url)


def balancer(client: Callable[[str], Any]) -> str:
    """Create a load balancer with a target group, and return its name in DNS."""
    ec2, elb = client("ec2"), client("elbv2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = []
    for i, zone in enumerate("ab"):
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{i}.0/24", AvailabilityZone=f"{REGION}{zone}")
        subnets.append(subnet["Subnet"]["SubnetId"])
    [made] = elb.create_load_balancer(Name="sluice", Subnets=subnets)["LoadBalancers"]
    [group] = elb.create_target_group(Name="t", Protocol="HTTP", Port=5000, VpcId=vpc, TargetType="ip")["TargetGroups"]
    action = {"Type": "forward", "TargetGroupArn": group["TargetGroupArn"]}
    elb.create_listener(LoadBalancerArn=made["LoadBalancerArn"], Protocol="HTTP", Port=80, DefaultActions=[action])
    return str(made["DNSName"])


def found(patient: Patient) -> dict[str, list[str]]:
    """Return the problems of each check that finds any."""
    return {check.name: problems for check, problems in results(patient, after.CHECKS) if problems}


def test_a_stage_that_works_has_no_problem(patient: Patient) -> None:
    assert found(patient) == {}


def test_a_cluster_that_kubectl_doesnt_reach_is_found_and_nothing_else_is_looked_at(patient: Patient) -> None:
    def refused(*_: str) -> Any:
        raise Unreachable("connection refused")

    assert found(replace(patient, kubectl=refused)) == {
        "cluster": [
            "kubectl doesn't reach the cluster of dev: run make access STAGE=dev in another terminal, and set "
            "KUBECONFIG as it says (connection refused)"
        ]
    }


def test_an_application_that_isnt_synced_is_found_with_argo_cds_reason(patient: Patient, cluster: Cluster) -> None:
    status = cluster.only("argocd/applications")["status"]
    status["sync"]["status"], status["conditions"] = "Unknown", [{"message": "authentication required"}]
    assert found(patient) == {
        "applications": ["sluice-dev is Unknown and Healthy: see docs/argocd.md (authentication required)"]
    }


def test_a_stage_that_argo_cd_doesnt_have_is_found(patient: Patient, cluster: Cluster) -> None:
    cluster.only("argocd/applications")["metadata"]["name"] = "sluice-prod"
    assert found(patient)["applications"] == ["Argo CD has no application sluice-dev: run make deploy STAGE=dev"]


def test_a_pod_that_cant_pull_its_image_is_found_with_the_kubelets_words(patient: Patient, cluster: Cluster) -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such digest"}}
    status = cluster["sluice/pods"][0]["status"]
    status["conditions"], status["containerStatuses"] = [], [{"name": "gateway", "state": waiting}]
    problems = found(patient)
    assert problems["pods"] == ["pod sluice-1 isn't ready: gateway waits, ImagePullBackOff: no such digest"]
    assert problems["image volume"] == [
        "no pod has mounted the weights of moondream: kubectl -n sluice describe pods "
        "-l app.kubernetes.io/component=sluice says why"
    ]


def test_a_pod_that_finds_no_node_is_found(patient: Patient, cluster: Cluster) -> None:
    why = "0/3 nodes are available: 3 Insufficient memory"
    cluster["sluice/pods"][1]["status"] = {"conditions": [{"type": "PodScheduled", "status": "False", "message": why}]}
    assert found(patient) == {"pods": [f"pod proxy-1 isn't ready: {why}"]}


def test_a_pod_that_is_about_to_end_is_no_problem(patient: Patient, cluster: Cluster) -> None:
    old = pod("sluice")
    old["metadata"]["deletionTimestamp"], old["status"]["conditions"] = "2026-11-01T00:00:00Z", []
    cluster["sluice/pods"].append(old)
    assert found(patient) == {}


def test_a_stage_that_may_have_no_pods_needs_none_with_weights(patient: Patient, cluster: Cluster) -> None:
    del cluster["sluice/pods"][0]
    assert list(found(patient)) == ["image volume"]
    assert found(replace(patient, stage=replace(DEV, min_replicas=0))) == {}


def test_each_model_needs_pods_with_its_weights_and_an_autoscaler(patient: Patient) -> None:
    embedding = replace(EMBEDDING, min_replicas=1)
    assert found(replace(patient, stage=replace(TWO_MODELS, more_models=(embedding,)))) == {
        "image volume": [
            "no pod has mounted the weights of all-minilm: kubectl -n sluice describe pods "
            "-l app.kubernetes.io/component=sluice-all-minilm says why"
        ],
        "autoscaler": [
            "no HorizontalPodAutoscaler sluice-all-minilm is there: kubectl -n sluice describe scaledobjects"
        ],
    }
    assert "image volume" not in found(replace(patient, stage=TWO_MODELS))  # which may have none


def test_a_proxy_without_the_load_balancers_gate_is_found(patient: Patient, cluster: Cluster) -> None:
    del cluster["sluice/pods"][1]["spec"]["readinessGates"]
    assert found(patient) == {
        "readiness gate": [
            "pod proxy-1 has no readiness gate of the load balancer: the namespace needs the label in "
            "argocd/namespace.yaml; then delete the pod"
        ]
    }


def test_a_target_that_isnt_healthy_is_found_with_the_load_balancers_reason(
    patient: Patient, healths: list[dict[str, str]]
) -> None:
    healths += [{"State": "unhealthy", "Description": "Health checks failed with 503"}, {"State": "draining"}]
    assert found(patient) == {
        "targets": ["target 10.0.0.7 of the load balancer is unhealthy: Health checks failed with 503"]
    }


def test_a_stage_without_a_load_balancer_is_found(patient: Patient, cluster: Cluster) -> None:
    cluster["sluice/ingresses"] = [{"status": {"loadBalancer": {}}}]
    assert found(patient)["targets"] == [
        "the Ingress sluice has no load balancer: kubectl -n sluice describe ingress sluice"
    ]


def test_a_load_balancer_of_another_account_is_found(patient: Patient, cluster: Cluster) -> None:
    cluster.only("sluice/ingresses")["status"]["loadBalancer"]["ingress"][0]["hostname"] = "x.elb.amazonaws.com"
    assert found(patient)["targets"] == [
        "the account has no load balancer x.elb.amazonaws.com in eu-central-1, which the Ingress sluice names"
    ]


def test_an_autoscaler_that_reads_no_metric_is_found(patient: Patient, cluster: Cluster) -> None:
    [condition] = cluster.only("sluice/horizontalpodautoscalers")["status"]["conditions"]
    condition |= {"status": "False", "reason": "FailedGetExternalMetric", "message": "unable to get external metric"}
    assert found(patient) == {"autoscaler": ["autoscaler sluice doesn't scale: unable to get external metric"]}
    condition["reason"] = "ScalingDisabled"  # at 0 pods
    assert found(patient) == {}
    cluster["sluice/horizontalpodautoscalers"] = []
    assert found(patient) == {
        "autoscaler": ["no HorizontalPodAutoscaler sluice is there: kubectl -n sluice describe scaledobjects"]
    }


def test_a_secret_that_may_not_be_read_is_found(patient: Patient, cluster: Cluster) -> None:
    cluster.only("sluice/externalsecrets")["status"]["conditions"] = [DENIED]
    assert found(patient) == {
        "secrets": [
            "secret api-keys in sluice isn't there: could not get secret data: AccessDenied: see docs/operations.md"
        ]
    }


def test_a_notice_that_didnt_arrive_is_found(patient: Patient, answers: Answers) -> None:
    answers[RUNS][1]["workflow_runs"][0]["display_title"] = "smoke of prod at " + REVISION
    assert found(patient) == {"notice": [f"GitHub got no notice of {REVISION[:12]}: see The token in docs/argocd.md"]}


def test_a_smoke_test_that_failed_is_found(patient: Patient, answers: Answers) -> None:
    run = answers[RUNS][1]["workflow_runs"][0]
    run["conclusion"] = "failure"
    assert found(patient) == {"notice": [f"the smoke test of {REVISION[:12]} ended with failure: https://x/run"]}
    run["status"] = "in_progress"
    assert found(patient) == {}


def test_a_stage_without_a_release_is_found(patient: Patient, cluster: Cluster) -> None:
    del cluster.only("argocd/applications")["status"]["operationState"]
    assert found(patient) == {"notice": ["nothing was synced yet: there is no release"]}


def test_a_refusal_is_found_with_its_words(patient: Patient, answers: Answers) -> None:
    answers["/generate"] = 503, {"error": "no pod is ready"}
    assert found(patient) == {"answer": [f'{patient.url}/generate answers 503: {{"error": "no pod is ready"}}']}


def test_a_stage_with_keys_asks_for_one(patient: Patient, answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    answers["/generate"] = 401, {"error": "unauthorized"}
    asks = f"{patient.url} asks for a key: set API_KEY to one of dev, and run this again"
    assert found(patient) == {"answer": [asks]}
    monkeypatch.setenv("API_KEY", "wrong")
    assert found(patient)["answer"][0].endswith('answers 401: {"error": "unauthorized"}')


def test_a_stage_that_cant_be_reached_is_found(patient: Patient) -> None:
    [problem] = found(replace(patient, url="http://127.0.0.1:9"))["answer"]
    assert problem.startswith("http://127.0.0.1:9/generate gives no answer: ")


def test_the_cluster_is_looked_at_once_its_stack_is_there(patient: Patient) -> None:
    def names() -> set[str]:
        return {check.name for check, _ in everything(patient)}

    assert names().isdisjoint(check.name for check in after.CHECKS)
    patient.client("ssm").put_parameter(Name=before.BOOTSTRAP_PARAMETER, Value="6", Type="String")
    template = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    patient.client("cloudformation").create_stack(StackName="sluice-dev-cluster", TemplateBody=template)
    assert names() >= {check.name for check in after.CHECKS}


@pytest.mark.usefixtures("programs")
def test_kubectls_last_words_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unreachable, match="kubectl is missing"):
        kubectl("get", "pods")
    program = tmp_path / "kubectl"
    program.write_text("#!/bin/sh\necho 'E1 retrying' >&2\necho 'no such host' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(Unreachable, match=r"^no such host$"):
        kubectl("get", "pods")
