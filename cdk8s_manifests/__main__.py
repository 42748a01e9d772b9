"""The command: python -m cdk8s_manifests --stage dev --image sha256:… --weights sha256:… --out DIR."""

import argparse
import sys
from pathlib import Path

from config import ConfigError, find_stage
from context import Context


def main() -> None:
    """Write a stage's manifests into a folder, in place of those that are there."""
    parser = argparse.ArgumentParser(prog="cdk8s_manifests", description=main.__doc__)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--image", required=True, help="digest of the gateway's image")
    parser.add_argument("--weights", required=True, help="digest of the image with the model's weights")
    parser.add_argument("--out", required=True, type=Path, help="folder; its other *.yaml files go")
    arguments = parser.parse_args()
    try:
        stage = find_stage(arguments.stage)
        context = None if stage.registry else Context.from_cdk_json()
        from cdk8s_manifests.main import render  # starts Node, which a mistake needn't wait for

        files = render(stage, image=arguments.image, weights=arguments.weights, context=context)
    except ConfigError as error:
        sys.exit(f"cdk8s_manifests: {error}")
    write(files, arguments.out)


def write(files: dict[str, str], folder: Path) -> None:
    """Make `files` (name → YAML) the only YAML files of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.yaml"):
        if old.name not in files:
            old.unlink()
    for name, text in files.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
