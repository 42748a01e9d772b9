"""The objects of argocd/*.yaml, with a stage's and an owner's names filled in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any, Self

import yaml

from cdk8s_manifests.names import PROXIES, STATUS_PORT, host, object_names
from config import LoadBalancer, Stage, manifests_branch
from context import Context

HERE = Path(__file__).parent
Object = dict[str, Any]
# An id that no key has: until keys/ has CI's, nothing is synced, for without any id Argo CD would check no signature.
NO_KEY = "0" * 16


@dataclass(frozen=True, kw_only=True)
class GitRemote:
    """The repository with the stages' branches, who signs them, and the API that gets notifications: GitHub's, or a
    stand-in's.

    repository: OWNER/NAME. repo_url: for `git clone`. api_url: without a trailing slash. keys: CI's public keys,
    armored, by their ids.
    """

    repository: str
    repo_url: str
    api_url: str = "https://api.github.com"
    keys: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, context: Context) -> Self:
        """Return the owner's repository on GitHub."""
        repository = f"{context.github_owner}/{context.github_repository}"
        keys = {path.stem: path.read_text() for path in sorted((HERE / "keys").glob("*.asc"))}
        return cls(repository=repository, repo_url=f"https://github.com/{repository}", keys=keys)


def sluice(stage: Stage, remote: GitRemote, registry: str = "") -> list[Object]:
    """Return the stage's Namespace, the policies of it, the AppProject `sluice` and the stage's Application.

    They are in the order to apply them. registry: host of the image repositories if the stage names none.
    """
    names = ("namespace", "order", "project", "application")
    namespace, *order, project, application = (each for name in names for each in _load(f"{name}.yaml", stage, remote))
    project["spec"]["signatureKeys"] = [{"keyID": id_} for id_ in remote.keys or [NO_KEY]]
    [of_default] = application["spec"]["ignoreDifferences"]
    deployments = (object_names(stage, view).component for view in stage.each_model)
    application["spec"]["ignoreDifferences"] = [{**of_default, "name": name} for name in deployments]
    unused = {"Ingress": stage.load_balancer is LoadBalancer.NONE, "ServiceMonitor": not stage.monitoring}
    allowed = project["spec"]["namespaceResourceWhitelist"]
    project["spec"]["namespaceResourceWhitelist"] = [each for each in allowed if not unused.get(each["kind"])]
    return [namespace, *admission(stage, stage.registry or registry), *order, project, application]


def admission(stage: Stage, registry: str) -> list[Object]:
    """Return the quota of the stage's namespace, and the policies that its objects must fit."""
    names = {"stage": stage.name, "namespace": stage.namespace, "registry": registry}
    names |= {"proxy_image": stage.proxy_image, "api_keys": stage.api_keys, "api_keys_source": stage.api_keys_source}
    names["inbound_cidrs"] = ",".join(stage.allowed_cidrs)
    names["metrics"] = f"http://{host(PROXIES, stage.namespace)}:{STATUS_PORT}/"
    # As many as drain next to as many new ones, and once more for the next release.
    generate = sum(view.max_replicas for view in stage.each_model)
    names["pods"] = str(3 * (generate + stage.proxy_replicas))
    return _read("admission.yaml", names)


def egress(stage: Stage) -> list[Object]:
    """Return where Argo CD and KEDA may connect to, on AWS."""
    names = {"namespace": stage.namespace, "vpc_cidr": stage.vpc_cidr, "service_cidr": stage.service_cidr}
    return _read("egress.yaml", names)


def settings(stage: Stage, remote: GitRemote) -> list[Object]:
    """Return the ConfigMaps with our roles, notifications and CI's keys: argocd-cm, -rbac-cm, -notifications-cm,
    -gpg-keys-cm.

    argocd-cm has our settings only: apply it with `kubectl apply --server-side`, which keeps the others.
    """
    names = ("settings", "notifications", "signatures")
    *others, signatures = (each for name in names for each in _load(f"{name}.yaml", stage, remote))
    signatures["data"] = dict(remote.keys)
    return [*others, signatures]


def platform(stage: Stage, remote: GitRemote, *, domain: str) -> list[Object]:
    """Return the AppProjects `platform` and `default`, and the Applications of what they allow.

    These are `argocd`, `keda`, `external-secrets`, and where there is a domain `external-dns`.
    """
    projects, [argo_cd] = (_load(f"{name}.yaml", stage, remote) for name in ("platform", "argo_cd"))
    argo_cd["spec"]["source"]["helm"]["valuesObject"] = chart_values(stage, remote)
    names = ["keda", "external_secrets", *(["external_dns"] if domain else [])]
    others = (_load(f"{name}.yaml", stage, remote, domain=domain) for name in names)
    return [*projects, argo_cd, *(each for objects in others for each in objects)]


def secrets(stage: Stage, region: str) -> list[Object]:
    """Return what External Secrets fetches from AWS Secrets Manager, for Argo CD and for the stage."""
    names = {"region": region, "github_token": stage.github_token}
    names |= {"namespace": stage.namespace, "api_keys": stage.api_keys, "api_keys_source": stage.api_keys_source}
    objects = _read("secrets.yaml", names)
    return objects if stage.api_keys_source else objects[:2]


def chart_values(stage: Stage, remote: GitRemote) -> Object:
    """Return the values of Argo CD's chart: values.yaml, and settings() where the chart has its places for them."""
    [values] = _load("values.yaml", stage, remote)
    ours, roles, notices, signatures = (config["data"] for config in settings(stage, remote))
    values["configs"]["gpg"] = {"keys": signatures}
    values["configs"]["cm"] |= ours
    values["configs"]["rbac"] = roles
    for part, prefix in {"notifiers": "service.", "templates": "template.", "triggers": "trigger."}.items():
        values["notifications"][part] = {key: text for key, text in notices.items() if key.startswith(prefix)}
    return values


def _load(name: str, stage: Stage, remote: GitRemote, **more: str) -> list[Object]:
    names = {"stage": stage.name, "namespace": stage.namespace, "branch": manifests_branch(stage.name)}
    names |= {**vars(remote), **more}
    return _read(name, names)


def _read(name: str, names: Mapping[str, str]) -> list[Object]:
    # safe_substitute leaves the notifications' $github-token, which Argo CD takes from its Secret
    text = Template((HERE / name).read_text()).safe_substitute(names)
    return list(yaml.safe_load_all(text))
