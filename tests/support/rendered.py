"""Stages as they are rendered, parsed, and each rendered only once."""

from functools import cache
from typing import Any

import yaml

from cdk8s_manifests.main import render
from config import Stage
from context import Context

Object = dict[str, Any]
IMAGE, WEIGHTS = "sha256:" + "1" * 64, "sha256:" + "2" * 64
CONTEXT = Context(
    account="123456789012",
    region="eu-central-1",
    github_owner="owner",
    github_owner_id="1",
    github_repository="sluice",
    github_repository_id="2",
    admin_arns=("arn:aws:iam::123456789012:role/admin",),
    domain="llm.example.com",
)


@cache
def files(stage: Stage, context: Context | None = CONTEXT) -> dict[str, str]:
    """Return the YAML of a stage by file name."""
    return render(stage, image=IMAGE, weights={view.model.name: WEIGHTS for view in stage.each_model}, context=context)


@cache
def objects(stage: Stage, context: Context | None = CONTEXT) -> list[Object]:
    """Return all objects of a stage, for reading only."""
    return [yaml.load(text, yaml.CSafeLoader) for text in files(stage, context).values()]


def find(stage: Stage, kind: str, name: str, context: Context | None = CONTEXT) -> Object:
    """Return one object; fails if there is none."""
    [found] = [obj for obj in objects(stage, context) if (obj["kind"], obj["metadata"]["name"]) == (kind, name)]
    return found


def pod(stage: Stage, deployment: str) -> Object:
    """Return the spec of a Deployment's pods."""
    spec: Object = find(stage, "Deployment", deployment)["spec"]["template"]["spec"]
    return spec


def container(stage: Stage, deployment: str, name: str) -> Object:
    """Return a container of a Deployment, a sidecar included."""
    spec = pod(stage, deployment)
    [found] = [each for each in spec.get("initContainers", []) + spec["containers"] if each["name"] == name]
    return dict(found)
