"""Rendering a stage's folder, from its Stage, the owner's context, and two digests."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from config import Stage
from context import Context
from delivery.branch import Refused

# The digest of the weights by the model's name. It is on main, so that a model changes in one commit together with its
# numbers, and a commit determines all of its release but the image. The models workflow proposes new entries.
WEIGHTS = Path(__file__).with_name("weights.json")


def weights_of(stage: Stage, path: Path = WEIGHTS) -> str:
    """Return the digest of the weights for a stage's model. Refuses a model that has none."""
    name = stage.model.name
    digest: str | None = json.loads(path.read_text()).get(name)
    if digest is None:
        raise Refused(f"{path.name} has no {name}, the model of stage {stage.name}: run the models workflow for it")
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise Refused(f"{path.name} has {digest!r} for {name}, which is not a digest")
    return digest


def render(stage: Stage, image: str, weights: str) -> Mapping[str, str]:
    """Return the stage's manifests, file name → YAML; image and weights are digests."""
    from cdk8s_manifests.main import render  # starts Node, which a rollback shouldn't need

    return render(stage, image=image, weights=weights, context=Context.from_cdk_json() if stage.node else None)
