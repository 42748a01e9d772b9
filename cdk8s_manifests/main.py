"""Render a Stage and its images' digests to the YAML of every object."""

import re
from collections.abc import Mapping

from cdk8s import ApiObject, App, Chart, Yaml

from cdk8s_manifests.autoscaling import autoscaler
from cdk8s_manifests.gateway import Gateway
from cdk8s_manifests.load_balancer import ingress
from cdk8s_manifests.monitoring import monitoring
from cdk8s_manifests.names import NAME, object_names
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


def render(stage: Stage, *, image: str, weights: Mapping[str, str], context: Context | None) -> dict[str, str]:
    """Return the stage's manifests, file name → YAML: one object a file, the same bytes for the same input.

    image, weights: digests, `sha256:` and 64 hexadecimal digits, of the weights for each model by its name; those of
    models that the stage doesn't serve aren't used. context: may be None where the stage names its own registry.
    Raises ConfigError.
    """
    host = context.host(stage) if context else ""
    app = App()
    chart = Chart(app, NAME, namespace=stage.namespace, labels={"app.kubernetes.io/part-of": NAME})
    gateway_image = _reference(stage, context, IMAGE_REPOSITORY, image)
    for view in stage.each_model:
        _model(chart, stage, view, image=gateway_image, weights=_weights(stage, context, view, weights))
    haproxy_image = stage.proxy_image or _reference(stage, context, PROXY_REPOSITORY, HAPROXY_IMAGE.partition("@")[2])
    Proxy(chart, "proxy", stage=stage, image=gateway_image, haproxy=haproxy_image, tls=bool(host))
    NetworkPolicies(chart, "network", stage=stage)
    ingress(chart, "ingress", stage=stage, host=host)
    monitoring(chart, "monitoring", stage=stage)
    return dict(sorted(_file(node) for node in app.node.find_all() if isinstance(node, ApiObject)))


def _model(chart: Chart, stage: Stage, view: Stage, *, image: str, weights: str) -> None:
    """Create what one model has of its own. image, weights: full references."""
    names = object_names(stage, view)
    pool = stage.pool(view.node) if view.node else None
    Gateway(chart, f"gateway{names.suffix}", view=view, names=names, pool=pool, image=image, weights=weights)
    autoscaler(chart, f"autoscaler{names.suffix}", view=view, names=names)


def _weights(stage: Stage, context: Context | None, view: Stage, weights: Mapping[str, str]) -> str:
    """Return the full reference of a model's weights; raises ConfigError."""
    name = view.model.name
    if name not in weights:
        given = ", ".join(weights) or "none"
        raise ConfigError(f"stage {stage.name} serves {name}, and its weights have no digest: those of {given} have")
    return _reference(stage, context, WEIGHTS_REPOSITORY, weights[name])


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
