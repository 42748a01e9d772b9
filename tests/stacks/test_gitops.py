import json
import re
from functools import cache
from typing import Any

import pytest
from aws_cdk import App, Stack
from aws_cdk import aws_eks_v2 as eks
from aws_cdk import aws_lambda as lambda_
from aws_cdk.assertions import Template

from config import DEV, PROD, Stage
from stacks.gitops import GitOps
from tests.support.rendered import CONTEXT

EACH = pytest.mark.parametrize("stage", [DEV, PROD], ids=lambda stage: stage.name)
CERTIFICATE = "arn:aws:acm:eu-central-1:123456789012:certificate/0-1"
LAYER = "arn:aws:lambda:eu-central-1:123456789012:layer:kubectl:1"


@cache
def synthesise(stage: Stage) -> tuple[GitOps, dict[str, Any]]:
    """Return the stack, on a cluster with nothing else in it, and its template's resources."""
    app = App(builtin_cloud_formation_validation=False)
    scope = Stack(app, "cluster")
    layer = lambda_.LayerVersion.from_layer_version_arn(scope, "Kubectl", LAYER)
    cluster = eks.Cluster(
        scope,
        "Cluster",
        version=eks.KubernetesVersion.of(stage.kubernetes_version),
        kubectl_provider_options=eks.KubectlProviderOptions(kubectl_layer=layer),
    )
    stack = GitOps(
        app, f"sluice-{stage.name}-gitops", stage=stage, context=CONTEXT, cluster=cluster, certificate_arn=CERTIFICATE
    )
    return stack, Template.from_stack(stack).to_json()["Resources"]


def in_order(stage: Stage) -> list[Any]:
    """Return the resources in the order of their making; fails unless each waits for the one before it."""
    left = dict(synthesise(stage)[1])
    done: list[str] = []
    while left:
        (name,) = [name for name, each in left.items() if set(each.get("DependsOn", [])) == set(done[-1:])]
        done.append(name)
        del left[name]
    return [synthesise(stage)[1][name] for name in done]


def manifests(stage: Stage) -> list[Any]:
    texts = [each["Properties"].get("Manifest") for each in in_order(stage)]
    return [obj for text in texts if text for obj in json.loads(text)]


def title(resource: Any) -> str:
    properties = resource["Properties"]
    if "Manifest" in properties:
        (obj,) = json.loads(properties["Manifest"])
        return f"{obj['kind']} {obj['metadata']['name']}"
    return str(properties.get("Chart") or properties["ObjectName"])


@EACH
def test_everything_is_made_in_an_order_that_can_be_undone(stage: Stage) -> None:
    """An Application goes before its project, without which Argo CD couldn't finish, and KEDA after its objects."""
    assert [title(each) for each in in_order(stage)] == [
        "argo-cd",
        "Namespace sluice",
        "AppProject platform",
        "AppProject default",
        "Application argocd",
        "Application keda",
        "Application external-secrets",
        "Application external-dns",
        "scaledobjects.keda.sh",
        "externalsecrets.external-secrets.io",
        "NetworkPolicy egress",
        "NetworkPolicy egress",
        "SecretStore aws",
        "ExternalSecret argocd-notifications-secret",
        "SecretStore aws",
        "ExternalSecret api-keys",
        "IngressClassParams sluice",
        "IngressClass sluice",
        "ResourceQuota sluice",
        f"ValidatingAdmissionPolicy sluice-pods-{stage.name}",
        f"ValidatingAdmissionPolicyBinding sluice-pods-{stage.name}",
        f"ValidatingAdmissionPolicy sluice-objects-{stage.name}",
        f"ValidatingAdmissionPolicyBinding sluice-objects-{stage.name}",
        "ValidatingAdmissionPolicy sluice-release-order",
        f"ValidatingAdmissionPolicyBinding sluice-release-order-{stage.name}",
        "AppProject sluice",
        f"Application sluice-{stage.name}",
    ]


@EACH
def test_all_of_it_goes_through_the_clusters_kubectl_provider(stage: Stage) -> None:
    resources = synthesise(stage)[1].values()
    assert all(each["Type"].startswith("Custom::AWSCDK-EKS-") for each in resources)
    (provider,) = {json.dumps(each["Properties"]["ServiceToken"]) for each in resources}
    assert "ClusterKubectlProvider" in provider


@EACH
def test_what_a_failed_deployment_left_is_no_obstacle(stage: Stage) -> None:
    objects = [each["Properties"] for each in in_order(stage) if "Manifest" in each["Properties"]]
    assert all(each["Overwrite"] is True for each in objects)


@EACH
def test_argo_cds_chart_is_installed_by_exact_version(stage: Stage) -> None:
    properties = in_order(stage)[0]["Properties"]
    assert properties["Repository"] == "https://argoproj.github.io/argo-helm"
    assert re.fullmatch(r"\d+\.\d+\.\d+", properties["Version"])
    assert (properties["Release"], properties["Namespace"], properties["Wait"]) == ("argocd", "argocd", True)


def test_helm_leaves_to_argo_cd_what_may_change() -> None:
    """A change of argocd/ must not make CloudFormation run `helm upgrade`: Argo CD owns those fields by then."""
    given = json.loads(in_order(DEV)[0]["Properties"]["Values"])
    assert given == {"dex": {"enabled": False}, "notifications": {"secret": {"create": False}}}
    (own,) = [each for each in manifests(DEV) if each["metadata"]["name"] == "argocd"]
    values = own["spec"]["source"]["helm"]["valuesObject"]
    assert values["dex"] == given["dex"]
    assert values["notifications"]["secret"] == given["notifications"]["secret"]


@EACH
def test_what_needs_a_kind_waits_until_argo_cd_has_installed_it(stage: Stage) -> None:
    waits = [each["Properties"] for each in in_order(stage) if "JsonPath" in each["Properties"]]
    assert [each["ObjectName"] for each in waits] == ["scaledobjects.keda.sh", "externalsecrets.external-secrets.io"]
    for wait in waits:
        assert "Established" in wait["JsonPath"]
        assert int(wait["TimeoutSeconds"]) < 15 * 60  # the provider's own limit


def test_the_load_balancer_has_the_stages_certificate() -> None:
    (params,) = [each for each in manifests(DEV) if each["kind"] == "IngressClassParams"]
    assert params["spec"]["certificateARNs"] == [CERTIFICATE]


@EACH
def test_the_application_reads_the_owners_repository(stage: Stage) -> None:
    spec = manifests(stage)[-1]["spec"]
    assert spec["source"]["repoURL"] == "https://github.com/owner/sluice"
    assert spec["source"]["path"] == stage.name


def test_prods_argo_cd_is_protected() -> None:
    assert synthesise(PROD)[0].termination_protection is True
    assert not synthesise(DEV)[0].termination_protection
