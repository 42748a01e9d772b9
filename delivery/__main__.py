"""`python -m delivery`: what the workflows call, one command a step, in a clone that has main's history.

Standard output is for people, the file that GITHUB_OUTPUT names for later steps. What is refused ends with one
sentence and exit code 1.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from config import ConfigError, Stage, find_stage
from delivery import live, manifests, rollback
from delivery.branch import Branch, Refused
from delivery.git import GitError, git
from delivery.promote import promote
from delivery.proposal import Proposal
from delivery.publish import publish

REVIEWED = ("prod",)  # stages that change by a pull request only
FORMS = {
    "digest": (r"sha256:[0-9a-f]{64}", "a digest: sha256: and 64 hex digits, never a tag"),
    "commit": (r"[0-9a-f]{40}", "a commit: 40 hex digits"),
}
Outputs = dict[str, str]


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run one command and return the exit code."""
    options = parser().parse_args(arguments)
    try:
        outputs: Outputs = options.run(Branch(Path(), options.remote), options)
    except (Refused, GitError, ConfigError) as problem:
        print(f"sluice: {problem}", file=sys.stderr)
        return 1
    if path := environ.get("GITHUB_OUTPUT"):
        with Path(path).open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in outputs.items())
    return 0


def run_publish(branch: Branch, options: argparse.Namespace) -> Outputs:
    """Render a stage and push it to the branch."""
    stage: Stage = options.stage
    if stage.name in REVIEWED:
        raise Refused(f"stage {stage.name} isn't published to: promote gives it what was tried before")
    weights = options.weights or manifests.weights_of(stage)
    files = manifests.render(stage, options.image, weights)
    about = f"image {options.image}\nweights {weights}"
    commit = publish(branch, stage=stage.name, files=files, source=options.source, about=about)
    print(f"{stage.name} gets {options.source[:12]}." if commit else f"{stage.name} has these manifests already.")
    return {"commit": commit or ""}


def run_source(branch: Branch, options: argparse.Namespace) -> Outputs:
    """Print the commit of main from which a stage is rendered, now or at a commit of the branch."""
    tip, name = branch.fetch(), options.stage.name
    if tip is None:
        raise Refused(f"stage {name} runs nothing yet")
    source = branch.release_at(tip, options.revision or tip, name).source
    print(source)
    return {"source": source}


def run_promote(branch: Branch, options: argparse.Namespace) -> Outputs:
    """Propose for prod what dev runs."""
    prod, source = find_stage("prod"), git(branch.repo, "rev-parse", "HEAD")
    proposal = promote(
        branch, before="dev", to="prod", source=source, render=lambda *digests: manifests.render(prod, *digests)
    )
    print(proposal.text if proposal else "prod has these manifests already.")
    return outputs_of(proposal)


def run_revert(branch: Branch, options: argparse.Namespace) -> Outputs:
    """Roll back a release that failed, or roll back to one that a person names."""
    stage = options.stage.name
    if options.to:
        choose = rollback.on_request(branch, stage=stage, to=options.to)
    else:
        choose = rollback.after_failure(branch, stage=stage, revision=options.revision)
    try:
        done = rollback.revert(branch, choose, stage=stage, review=stage in REVIEWED)
    except rollback.Superseded as reason:
        print(f"Nothing was rolled back: {reason}.")
        return {"bad": "", **outputs_of(None)}
    print(done.proposal.text if done.proposal else f"{stage} was rolled back from {done.bad.source} to {done.source}.")
    return {"bad": done.bad.source, **outputs_of(done.proposal)}


def run_live(branch: Branch, options: argparse.Namespace) -> Outputs:
    """Check that the release that should be live is live."""
    stage: Stage = options.stage
    found = live.check_live(branch, stage=stage.name, revision=options.revision, images=options.images)
    note = ", but the branch has a newer release by now" if found.superseded else ""
    print(f"{stage.name} runs {found.release.source} as {found.image}{note}.")
    # The smoke test asks for the Stage's model, and waits for as long as its clients do.
    expected = {"model": stage.model.name, "timeout": str(stage.client_timeout)}
    return {"superseded": str(found.superseded).lower(), **expected}


def run_passed(branch: Branch, options: argparse.Namespace) -> Outputs:
    """Record that a release passed its smoke test."""
    noted = live.mark_passed(branch, stage=options.stage.name, revision=options.revision)
    print("Noted as good." if noted else f"Not noted as good: {options.stage.name} has moved on.")
    return {}


def outputs_of(proposal: Proposal | None) -> Outputs:
    """Return the branch and title of the pull request to open; empty where there is none."""
    return {"head": proposal.head, "title": proposal.title} if proposal else {"head": "", "title": ""}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        """End with the sentence."""
        sys.exit(f"sluice: {message}")


def parser() -> Parser:
    """Return the parser of the command line."""
    top = Parser(prog="python -m delivery", description="Move releases on the manifests branch, and check them.")
    top.add_argument("--remote", default="origin", help="the branch's repository: a remote's name or an address")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(run: Callable[[Branch, argparse.Namespace], Outputs], **needed: Callable[[str], object]) -> Parser:
        command: Parser = commands.add_parser(run.__name__.removeprefix("run_"), help=run.__doc__)
        for name, read in needed.items():
            command.add_argument(f"--{name}", type=read, required=True)
        command.set_defaults(run=run)
        return command

    add(run_publish, stage=stage, image=form("digest"), source=form("commit")).add_argument(
        "--weights", type=form("digest"), help="instead of what delivery/weights.json has for the stage's model"
    )
    add(run_source, stage=stage).add_argument(
        "--revision", type=form("commit"), help="commit of the branch, not its tip"
    )
    add(run_promote)
    which = add(run_revert, stage=stage).add_mutually_exclusive_group(required=True)
    which.add_argument("--revision", type=form("commit"), help="commit of the branch that failed")
    which.add_argument("--to", type=form("commit"), help="commit of the branch to go back to")
    add(run_live, stage=stage, revision=form("commit"), images=image_list)
    add(run_passed, stage=stage, revision=form("commit"))
    return top


def stage(text: str) -> Stage:
    """Return the stage of this name."""
    try:
        return find_stage(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def image_list(text: str) -> list[str]:
    """Return the images in a JSON list."""
    try:
        images = json.loads(text)
    except ValueError:
        images = None
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a JSON list of images")
    return images


def form(name: str) -> Callable[[str], str]:
    """Return the reader of an option that must have a form."""
    pattern, allowed = FORMS[name]

    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r} is not {allowed}")
        return text

    return read


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
