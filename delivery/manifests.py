"""A stage's rendered manifests, as a job without rights has left them, and the weights of its models."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from config import Stage
from delivery.branch import Refused

# The digest of the weights by the model's name. It is on main, so that a model changes in one commit together with its
# numbers, and a commit determines all of its release but the image. The models workflow proposes new entries.
WEIGHTS = Path(__file__).with_name("weights.json")


def weights_of(stage: Stage, path: Path = WEIGHTS) -> dict[str, str]:
    """Return the digest of the weights for each model of a stage. Refuses a model that has none."""
    known = json.loads(path.read_text())
    return {view.model.name: _digest(known, view.model.name, stage, path) for view in stage.each_model}


def _digest(known: Mapping[str, str], name: str, stage: Stage, path: Path) -> str:
    if name not in known:
        raise Refused(f"{path.name} has no {name}, a model of stage {stage.name}: run the models workflow for it")
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", known[name]):
        raise Refused(f"{path.name} has {known[name]!r} for {name}, which is not a digest")
    return known[name]


def read(folder: Path) -> dict[str, str]:
    """Return the files of a folder that `python -m cdk8s_manifests` has filled, name → YAML. Refuses an empty one."""
    files = {path.name: path.read_text() for path in sorted(folder.glob("*.yaml"))}
    if not files:
        raise Refused(f"{folder} has no manifests: render the stage first")
    return files
