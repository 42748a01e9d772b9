"""Render a Stage and two digests to the YAML of every object."""

import re

from cdk8s import ApiObject, App, Chart, Yaml

from cdk8s_manifests.autoscaling import autoscaler
from cdk8s_manifests.gateway import Gateway
from cdk8s_manifests.load_balancer import ingress
from cdk8s_manifests.monitoring import monitoring
from cdk8s_manifests.names import NAME
from cdk8s_manifests.network_policies import NetworkPolicies
from cdk8s_manifests.proxy import Proxy
from config import (
    HAPROXY_IMAGE,
    IMAGE_REPOSITORY,
    PROXY_REPOSITORY,
    WEIGHTS_REPOSITORY,
    ConfigError,
    Stage,
)
from context import Context


def render(stage: Stage, *, image: str, weights: str, context: Context | None) -> dict[str, str]:
    """Return the stage's manifests, file name → YAML: one object a file, the same bytes for the same input.

    image, weights: digests, `sha256:` and 64 hexadecimal digits. context: may be None where the stage names its own
    registry. Raises ConfigError.
    """
    host = context.host(stage) if context else ""
    app = App()
    chart = Chart(app, NAME, namespace=stage.namespace, labels={"app.kubernetes.io/part-of": NAME})
    gateway_image = _reference(stage, context, IMAGE_REPOSITORY, image)
    weights_image = _reference(stage, context, WEIGHTS_REPOSITORY, weights)
    Gateway(chart, "gateway", stage=stage, image=gateway_image, weights=weights_image)
    haproxy_image = stage.proxy_image or _reference(stage, context, PROXY_REPOSITORY, HAPROXY_IMAGE.partition("@")[2])
    Proxy(chart, "proxy", stage=stage, image=gateway_image, haproxy=haproxy_image, tls=bool(host))
    NetworkPolicies(chart, "network", stage=stage)
    autoscaler(chart, "autoscaler", stage=stage)
    ingress(chart, "ingress", stage=stage, host=host)
    monitoring(chart, "monitoring", stage=stage)
    return dict(sorted(_file(node) for node in app.node.find_all() if isinstance(node, ApiObject)))


def _reference(stage: Stage, context: Context | None, repository: str, digest: str) -> str:
    """Return `registry/repository@digest`; raises ConfigError."""
    registry = stage.registry or (context.registry if context else "")
    if not registry:
        raise ConfigError(f"stage {stage.name}: registry is empty, so the account's is needed: set it in cdk.json")
    if not re.fullmatch("sha256:[0-9a-f]{64}", digest):
        raise ConfigError(f"{repository}: {digest!r} is not a digest, sha256: and 64 hexadecimal digits; tags can move")
    return f"{registry}/{repository}@{digest}"


def _file(obj: ApiObject) -> tuple[str, str]:
    return f"{obj.kind.lower()}-{obj.name}.yaml", Yaml.stringify(obj.to_json())
