"""The command: python -m cdk8s_manifests --stage dev --image sha256:… --weights sha256:… --out DIR."""

import argparse
import sys
from pathlib import Path

from command_line import InputError, Parser, read_stage, run
from config import Stage
from context import Context


def main(arguments: list[str]) -> int:
    """Write a stage's manifests and return the exit code."""
    return run(parser(), arguments)


def parser() -> Parser:
    """Return the command line."""
    made = Parser(prog="python -m cdk8s_manifests", description=render_and_write.__doc__)
    made.add_argument("--stage", type=read_stage, required=True)
    made.add_argument("--image", required=True, help="digest of the gateway's image")
    made.add_argument(
        "--weights",
        required=True,
        help="digest of the image with the model's weights; of several models MODEL=DIGEST each, with blanks between",
    )
    made.add_argument("--out", required=True, type=Path, help="folder; its other *.yaml files go")
    made.set_defaults(run=render_and_write)
    return made


def render_and_write(options: argparse.Namespace) -> int:
    """Write a stage's manifests into a folder, in place of those that are there."""
    context = None if options.stage.registry else Context.from_cdk_json()
    weights = read_weights(options.stage, options.weights)
    from cdk8s_manifests.main import render  # starts Node, which a mistake needn't wait for

    files = render(options.stage, image=options.image, weights=weights, context=context)
    try:
        write(files, options.out)
    except OSError as problem:
        raise InputError(f"--out {options.out} can't be written: {problem.strerror}") from None
    return 0


def read_weights(stage: Stage, text: str) -> dict[str, str]:
    """Return the digest of each model's weights; one that names no model is the only one's. Raises InputError."""
    if "=" not in text and not stage.more_models:
        return {stage.model.name: text}
    pairs = [pair.partition("=") for pair in text.split()]
    for name, equals, digest in pairs:
        if not (name and equals and digest):
            served = ", ".join(view.model.name for view in stage.each_model)
            raise InputError(f"--weights: {name + equals + digest!r} is not MODEL=DIGEST; {stage.name} serves {served}")
    return {name: digest for name, _, digest in pairs}


def write(files: dict[str, str], folder: Path) -> None:
    """Make `files` (name → YAML) the only YAML files of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.yaml"):
        if old.name not in files:
            old.unlink()
    for name, text in files.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
