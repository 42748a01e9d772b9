"""The objects of argocd/*.yaml, with a stage's and an owner's names filled in."""

from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Self

import yaml

from config import MANIFESTS_BRANCH, Stage
from context import Context

HERE = Path(__file__).parent
Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class GitRemote:
    """The repository with the manifests branch, and the API that gets notifications: GitHub's, or a stand-in's.

    repository: OWNER/NAME. repo_url: for `git clone`. api_url: without a trailing slash.
    """

    repository: str
    repo_url: str
    api_url: str = "https://api.github.com"

    @classmethod
    def of(cls, context: Context) -> Self:
        """Return the owner's repository on GitHub."""
        repository = f"{context.github_owner}/{context.github_repository}"
        return cls(repository=repository, repo_url=f"https://github.com/{repository}")


def sluice(stage: Stage, remote: GitRemote) -> list[Object]:
    """Return the stage's Namespace, the AppProject `sluice` and the stage's Application, in the order to apply them."""
    return [each for name in ("namespace", "project", "application") for each in _load(f"{name}.yaml", stage, remote)]


def settings(stage: Stage, remote: GitRemote) -> list[Object]:
    """Return the ConfigMaps with our roles and notifications: argocd-cm, -rbac-cm, -notifications-cm.

    argocd-cm has our keys only: apply it with `kubectl apply --server-side`, which keeps the others.
    """
    return [*_load("settings.yaml", stage, remote), *_load("notifications.yaml", stage, remote)]


def platform(stage: Stage, remote: GitRemote) -> list[Object]:
    """Return the AppProjects `platform` and `default`, and the Applications `argocd` and `keda`."""
    projects, [argo_cd], keda = (_load(f"{name}.yaml", stage, remote) for name in ("platform", "argo_cd", "keda"))
    argo_cd["spec"]["source"]["helm"]["valuesObject"] = chart_values(stage, remote)
    return [*projects, argo_cd, *keda]


def chart_values(stage: Stage, remote: GitRemote) -> Object:
    """Return the values of Argo CD's chart: values.yaml, and settings() where the chart has its places for them."""
    [values] = _load("values.yaml", stage, remote)
    ours, roles, notices = (config["data"] for config in settings(stage, remote))
    values["configs"]["cm"] |= ours
    values["configs"]["rbac"] = roles
    for part, prefix in {"notifiers": "service.", "templates": "template.", "triggers": "trigger."}.items():
        values["notifications"][part] = {key: text for key, text in notices.items() if key.startswith(prefix)}
    return values


def _load(name: str, stage: Stage, remote: GitRemote) -> list[Object]:
    names = {"stage": stage.name, "namespace": stage.namespace, "branch": MANIFESTS_BRANCH, **vars(remote)}
    # safe_substitute leaves the notifications' $github-token, which Argo CD takes from its Secret
    text = Template((HERE / name).read_text()).safe_substitute(names)
    return list(yaml.safe_load_all(text))
