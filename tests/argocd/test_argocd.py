import json
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from argocd.objects import GitRemote, Object, chart_values, platform, secrets, settings, sluice
from config import DEV, LOCAL, PROD, STAGES, Autoscaling, Stage
from delivery.branch import ORDER
from tests.support import rendered
from tests.support.rendered import CONTEXT
from tests.support.several_models import TWO_MODELS

KEYS = {"4AEE18F83AFDEB23": "-----BEGIN PGP PUBLIC KEY BLOCK-----", "D56C4FCA57A46444": "another"}
REMOTE = replace(GitRemote.of(CONTEXT), keys=KEYS)
EACH = pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
# Every kind that a stage can have.
FULL = replace(PROD, monitoring=True)
VARIANTS = [LOCAL, DEV, FULL, replace(DEV, autoscaling=Autoscaling.CPU)]


def everything(stage: Stage) -> list[Object]:
    return [
        *sluice(stage, REMOTE),
        *platform(stage, REMOTE, domain=CONTEXT.domain),
        *settings(stage, REMOTE),
        *secrets(stage, CONTEXT.region),
    ]


def one(kind: str, name: str, stage: Stage = DEV) -> Any:
    (found,) = [each for each in everything(stage) if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def notifications() -> Any:
    return one("ConfigMap", "argocd-notifications-cm")["data"]


def kinds(whitelist: list[dict[str, str]]) -> set[tuple[str, str]]:
    return {(each["group"], each["kind"]) for each in whitelist}


def group_and_kind(obj: Object) -> tuple[str, str]:
    group, slash, _ = obj["apiVersion"].partition("/")
    return group if slash else "", obj["kind"]


@EACH
def test_every_name_is_filled_in(stage: Stage) -> None:
    text = json.dumps(everything(stage))
    assert "${" not in text
    assert text.count("$") == text.count("$github-token") + text.count("$reasons") + text.count("{40}$")


@pytest.mark.parametrize("stage", VARIANTS, ids=lambda stage: stage.name)
def test_the_project_allows_every_kind_that_is_rendered_and_little_else(stage: Stage) -> None:
    spec = one("AppProject", "sluice", stage)["spec"]
    allowed, found = kinds(spec["namespaceResourceWhitelist"]), {group_and_kind(obj) for obj in rendered.objects(stage)}
    assert found <= allowed
    # Pods and ReplicaSets are shown, and a stage may change what scales it.
    autoscalers = {("keda.sh", "ScaledObject"), ("autoscaling", "HorizontalPodAutoscaler")}
    assert allowed - found <= {("", "Pod"), ("apps", "ReplicaSet")} | autoscalers
    assert spec["clusterResourceWhitelist"] == []


def test_the_project_allows_nothing_that_gives_rights() -> None:
    allowed = kinds(one("AppProject", "sluice")["spec"]["namespaceResourceWhitelist"])
    assert not {"*", "Secret", "Role", "RoleBinding", "Namespace", "Job", "DaemonSet"} & {kind for _, kind in allowed}
    assert "*" not in {group for group, _ in allowed}


@EACH
def test_the_project_is_one_repository_and_one_namespace(stage: Stage) -> None:
    spec = one("AppProject", "sluice", stage)["spec"]
    assert spec["sourceRepos"] == ["https://github.com/owner/sluice"]
    assert spec["destinations"] == [{"server": "https://kubernetes.default.svc", "namespace": stage.namespace}]


@EACH
def test_the_application_follows_the_stages_branch(stage: Stage) -> None:
    spec = one("Application", f"sluice-{stage.name}", stage)["spec"]
    branch = f"refs/heads/stages/{stage.name}"  # a tag of the same name, which anybody may push, isn't it
    where = {"repoURL": "https://github.com/owner/sluice", "targetRevision": branch, "path": stage.name}
    source = {**where, "directory": {"include": "*.yaml"}}  # so that no file of another name turns on Kustomize or Helm
    assert spec["source"] == source
    assert spec["project"] == "sluice"
    assert spec["syncPolicy"]["automated"] == {"prune": True, "selfHeal": True}
    assert spec["destination"]["namespace"] == stage.namespace


@EACH
def test_argo_cd_takes_only_commits_that_ci_has_signed(stage: Stage) -> None:
    assert one("AppProject", "sluice", stage)["spec"]["signatureKeys"] == [{"keyID": id_} for id_ in KEYS]
    assert one("ConfigMap", "argocd-gpg-keys-cm", stage)["data"] == KEYS


def test_without_ci_s_key_argo_cd_takes_no_commit() -> None:
    *_, project, _ = sluice(DEV, replace(REMOTE, keys={}))
    assert project["spec"]["signatureKeys"] == [{"keyID": "0" * 16}]


@EACH
def test_the_cluster_keeps_the_order_of_releases_in_the_stages_namespace(stage: Stage) -> None:
    policy = one("ValidatingAdmissionPolicy", "sluice-release-order", stage)["spec"]
    (rule,) = policy["matchConstraints"]["resourceRules"]
    order = yaml.safe_load(ORDER.format(number=1))
    assert (order["kind"], [order["metadata"]["name"]]) == ("ConfigMap", rule["resourceNames"])
    assert rule["resources"] == ["configmaps"]
    assert policy["failurePolicy"] == "Fail"
    binding = one("ValidatingAdmissionPolicyBinding", f"sluice-release-order-{stage.name}", stage)["spec"]
    assert (binding["policyName"], binding["validationActions"]) == ("sluice-release-order", ["Deny"])
    selector = binding["matchResources"]["namespaceSelector"]["matchLabels"]
    assert selector == {"kubernetes.io/metadata.name": stage.namespace}


def test_only_the_autoscalers_replicas_may_differ_from_git() -> None:
    spec = one("Application", "sluice-dev")["spec"]
    (ignored,) = spec["ignoreDifferences"]
    assert ignored == {"group": "apps", "kind": "Deployment", "name": "sluice", "jsonPointers": ["/spec/replicas"]}
    assert "RespectIgnoreDifferences=true" in spec["syncPolicy"]["syncOptions"]
    replicas = {
        obj["metadata"]["name"]: "replicas" in obj["spec"]
        for obj in rendered.objects(DEV)
        if obj["kind"] == "Deployment"
    }
    assert replicas == {"sluice": False, "proxy": True}


def test_the_autoscaler_of_each_model_owns_its_replicas() -> None:
    spec = one("Application", "sluice-dev", TWO_MODELS)["spec"]
    assert [each["name"] for each in spec["ignoreDifferences"]] == ["sluice", "sluice-all-minilm"]
    assert {each["jsonPointers"][0] for each in spec["ignoreDifferences"]} == {"/spec/replicas"}


def test_the_quota_has_room_for_a_rollout_of_all_that_there_is() -> None:
    assert one("ResourceQuota", "sluice", DEV)["spec"]["hard"]["pods"] == str(3 * (4 + 2))
    assert one("ResourceQuota", "sluice", TWO_MODELS)["spec"]["hard"]["pods"] == str(3 * (4 + 2 + 2))


def test_a_release_that_cant_be_applied_has_failed_within_half_a_minute() -> None:
    retry = one("Application", "sluice-dev")["spec"]["syncPolicy"]["retry"]
    first = int(retry["backoff"]["duration"].removesuffix("s"))
    assert sum(first * retry["backoff"]["factor"] ** number for number in range(1, retry["limit"] + 1)) <= 30
    assert retry["refresh"] is True


def test_no_kind_has_a_sync_wave() -> None:
    """With two waves a sync ends when all is healthy: until then the revert of a bad release would wait."""
    assert not [obj for stage in VARIANTS for obj in rendered.objects(stage) if "sync-wave" in json.dumps(obj)]


@EACH
def test_the_namespace_is_restricted(stage: Stage) -> None:
    labels = one("Namespace", stage.namespace, stage)["metadata"]["labels"]
    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {"restricted"}


@EACH
def test_a_new_proxy_isnt_ready_before_the_load_balancer_sends_it_requests(stage: Stage) -> None:
    labels = one("Namespace", stage.namespace, stage)["metadata"]["labels"]
    assert labels["eks.amazonaws.com/pod-readiness-gate-inject"] == "enabled"


def test_sluice_and_keda_take_what_they_made_with_them_and_argo_cd_stays() -> None:
    finalizers = {
        each["metadata"]["name"]: each["metadata"].get("finalizers")
        for each in everything(DEV)
        if each["kind"] == "Application"
    }
    foreground = ["resources-finalizer.argocd.argoproj.io/foreground"]
    kept = {"sluice-dev": foreground, "keda": foreground, "external-secrets": foreground, "external-dns": foreground}
    assert finalizers == kept | {"argocd": None}


def test_what_the_application_subscribes_to_exists() -> None:
    data = notifications()
    annotations = one("Application", "sluice-dev")["metadata"]["annotations"]
    subscriptions = [name.split(".")[-2:] for name in annotations if name.startswith("notifications.argoproj.io")]
    assert sorted(subscriptions) == [["on-sync-failed", "github"], ["on-synced", "github"]]
    for trigger, service in subscriptions:
        assert f"service.webhook.{service}" in data
        for condition in yaml.safe_load(data[f"trigger.{trigger}"]):
            assert condition["oncePer"]
            for template in condition["send"]:
                assert service in yaml.safe_load(data[f"template.{template}"])["webhook"]


def test_notices_are_dispatches_to_the_owners_repository() -> None:
    data = notifications()
    service = yaml.safe_load(data["service.webhook.github"])
    assert service["url"] == "https://api.github.com"
    assert {"name": "Authorization", "value": "Bearer $github-token"} in service["headers"]
    templates = {name: yaml.safe_load(text) for name, text in data.items() if name.startswith("template.")}
    events = {}
    for name, template in templates.items():
        post = template["webhook"]["github"]
        assert (post["method"], post["path"]) == ("POST", "/repos/owner/sluice/dispatches")
        (events[name],) = re.findall(r'"event_type": "([\w-]+)"', post["body"])
    assert set(events.values()) == {"sluice-synced", "sluice-sync-failed"}


def test_a_stand_in_can_take_the_place_of_github() -> None:
    remote = GitRemote(repository="o/r", repo_url="http://127.0.0.1:3000/r.git", api_url="http://127.0.0.1:9000")
    text = json.dumps([*sluice(LOCAL, remote), *settings(LOCAL, remote)])
    assert "url: http://127.0.0.1:9000" in text
    assert "http://127.0.0.1:3000/r.git" in text
    assert "github.com/" not in text


def test_ci_may_look_and_sync_and_nobody_else_has_a_role() -> None:
    data = one("ConfigMap", "argocd-rbac-cm")["data"]
    assert data["policy.default"] == ""
    assert data["policy.csv"].splitlines() == [
        "p, role:ci, applications, get, sluice/*, allow",
        "p, role:ci, applications, sync, sluice/*, allow",
        "p, role:ci, projects, get, sluice, allow",
        "g, ci, role:ci",
    ]
    accounts = [name for name in one("ConfigMap", "argocd-cm")["data"] if name.startswith("accounts.")]
    assert accounts == ["accounts.ci"]


def test_argo_cds_chart_gets_all_settings() -> None:
    values = chart_values(DEV, REMOTE)
    ours, roles, notices, keys = (each["data"] for each in settings(DEV, REMOTE))
    assert values["configs"]["gpg"]["keys"] == keys
    assert ours.items() <= values["configs"]["cm"].items()
    assert values["configs"]["rbac"] == roles
    parts = [values["notifications"][part] for part in ("notifiers", "templates", "triggers")]
    assert {name: text for part in parts for name, text in part.items()} == notices
    assert one("Application", "argocd")["spec"]["source"]["helm"]["valuesObject"] == values


def test_argo_cd_is_not_exposed_and_every_part_of_it_has_limits() -> None:
    values = chart_values(DEV, REMOTE)
    assert "ingress" not in values["server"]
    assert "service" not in values["server"]
    assert values["global"]["networkPolicy"] == {"create": True, "defaultDenyIngress": True}
    for part in ("controller", "repoServer", "server", "redis", "redisSecretInit", "notifications"):
        assert values[part]["resources"].keys() == {"requests", "limits"}


def test_the_github_token_is_in_no_file() -> None:
    assert chart_values(DEV, REMOTE)["notifications"]["secret"] == {"create": False}
    assert "Secret" not in {each["kind"] for each in everything(DEV)}


@EACH
def test_secrets_come_from_aws_and_a_change_arrives_within_a_minute(stage: Stage) -> None:
    found = {
        (each["metadata"]["namespace"], each["metadata"]["name"]): each["spec"]
        for each in secrets(stage, "eu-central-1")
        if each["kind"] == "ExternalSecret"
    }
    keys = {(stage.namespace, "api-keys")} if stage.api_keys_source else set()
    assert set(found) == {("argocd", "argocd-notifications-secret")} | keys
    token = found["argocd", "argocd-notifications-secret"]
    assert token["data"] == [{"secretKey": "github-token", "remoteRef": {"key": f"sluice/{stage.name}/github-token"}}]
    for name in keys:
        source = {"secretKey": "keys.toml", "remoteRef": {"key": f"sluice/{stage.name}/api-keys"}}
        assert found[name]["data"] == [source]
        assert found[name]["target"] == {"name": stage.api_keys}
    assert {each["refreshInterval"] for each in found.values()} == {"1m"}


def test_no_store_is_for_the_whole_cluster() -> None:
    kinds_of_secrets = {each["kind"] for each in secrets(DEV, "eu-central-1")}
    assert kinds_of_secrets == {"SecretStore", "ExternalSecret"}
    values = one("Application", "external-secrets")["spec"]["source"]["helm"]["valuesObject"]
    assert values["processClusterStore"] is False


def test_without_a_domain_nothing_writes_records() -> None:
    names = [each["metadata"]["name"] for each in platform(DEV, REMOTE, domain="")]
    assert "external-dns" not in names


def test_external_dns_writes_the_names_of_one_domain_from_ingresses_alone() -> None:
    values = one("Application", "external-dns")["spec"]["source"]["helm"]["valuesObject"]
    assert (values["sources"], values["domainFilters"]) == (["ingress"], ["llm.example.com"])
    assert values["txtOwnerId"] == "sluice-dev"
    assert values["txtPrefix"] == "%{record_type}-sluice."  # which stacks/domain.py allows


def test_who_makes_a_namespace_may_make_namespaces() -> None:
    for each in everything(DEV):
        if each["kind"] == "Application":
            makes = "CreateNamespace=true" in each["spec"]["syncPolicy"]["syncOptions"]
            project = one("AppProject", each["spec"]["project"])["spec"]
            assert makes is (("", "Namespace") in kinds(project["clusterResourceWhitelist"]))


def test_argo_cd_and_keda_are_charts_by_exact_version_from_the_projects_repositories() -> None:
    repositories = one("AppProject", "platform")["spec"]["sourceRepos"]
    for name in ("argocd", "keda", "external-secrets", "external-dns"):
        spec = one("Application", name)["spec"]
        assert spec["project"] == "platform"
        assert spec["source"]["repoURL"] in repositories
        assert re.fullmatch(r"\d+\.\d+\.\d+", spec["source"]["targetRevision"])
        assert spec["syncPolicy"]["automated"] == {"prune": True, "selfHeal": True}


def test_an_application_without_a_project_of_ours_may_do_nothing() -> None:
    spec = one("AppProject", "default")["spec"]
    assert spec == {"sourceRepos": [], "destinations": [], "clusterResourceWhitelist": []}
