"""`python -m delivery`: what the workflows call, one command a step, in a clone that has main's history.

Standard output is for people, the file that GITHUB_OUTPUT names for later steps.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from command_line import Parser, Reader, form, read_digest, read_stage, run
from config import Stage, find_stage
from delivery import live, manifests, rollback
from delivery.branch import Branch, Refused
from delivery.git import GitError, git
from delivery.promote import promote
from delivery.proposal import Proposal
from delivery.publish import publish

REVIEWED = ("prod",)  # stages that change by a pull request only
Outputs = dict[str, str]
read_commit = form(r"[0-9a-f]{40}", "a commit: 40 hex digits")


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run one command and return the exit code."""
    top = parser()
    top.set_defaults(run=partial(act, environ=environ))
    return run(top, arguments, Refused, GitError)


def act(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Take the step that a command names, and tell later ones what came of it. Raises Refused or GitError."""
    outputs: Outputs = options.step(Branch(Path(), options.remote), options)
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


def parser() -> Parser:
    """Return the parser of the command line."""
    top = Parser(prog="python -m delivery", description="Move releases on the manifests branch, and check them.")
    top.add_argument("--remote", default="origin", help="the branch's repository: a remote's name or an address")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, step: Callable[[Branch, argparse.Namespace], Outputs], **needed: Reader[object]) -> Parser:
        command: Parser = commands.add_parser(name, help=step.__doc__)
        for option, read in needed.items():
            command.add_argument(f"--{option}", type=read, required=True)
        command.set_defaults(step=step)
        return command

    add("publish", run_publish, stage=read_stage, image=read_digest, source=read_commit).add_argument(
        "--weights", type=read_digest, help="instead of what delivery/weights.json has for the stage's model"
    )
    add("source", run_source, stage=read_stage).add_argument(
        "--revision", type=read_commit, help="commit of the branch, not its tip"
    )
    add("promote", run_promote)
    which = add("revert", run_revert, stage=read_stage).add_mutually_exclusive_group(required=True)
    which.add_argument("--revision", type=read_commit, help="commit of the branch that failed")
    which.add_argument("--to", type=read_commit, help="commit of the branch to go back to")
    add("live", run_live, stage=read_stage, revision=read_commit, images=image_list)
    add("passed", run_passed, stage=read_stage, revision=read_commit)
    return top


def image_list(text: str) -> list[str]:
    """Return the images in a JSON list."""
    try:
        images = json.loads(text)
    except ValueError:
        images = None
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a JSON list of images")
    return images


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
