"""A stage's rendered manifests, as a job without rights has left them, and the weights of its model."""

import json
import re
from pathlib import Path

from config import Stage
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


def read(folder: Path) -> dict[str, str]:
    """Return the files of a folder that `python -m cdk8s_manifests` has filled, name → YAML. Refuses an empty one."""
    files = {path.name: path.read_text() for path in sorted(folder.glob("*.yaml"))}
    if not files:
        raise Refused(f"{folder} has no manifests: render the stage first")
    return files
