"""`python -m delivery`: what the workflows call, one command a step, in a clone that has main's history.

Standard output is for people, the file that GITHUB_OUTPUT names for later steps. The private key that signs releases is
in SIGNING_KEY, which only jobs in the environment `release` have.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from command_line import Parser, Reader, form, read_digest, read_stage, run
from config import Stage
from context import Context
from delivery import approved, live, manifests, rollback
from delivery.address import address
from delivery.branch import Branch, Refused
from delivery.digests import Digests
from delivery.git import GitError
from delivery.promote import check_approved, promote
from delivery.proposal import Proposal
from delivery.publish import publish
from delivery.seen import Seen, read_judgement, read_record
from delivery.signing import KeyProblem, keyring, public_keys

REVIEWED = ("prod",)  # stages that change by a pull request only
Outputs = dict[str, str]
Open = Callable[[str], Branch]  # from a stage's name to its branch
read_commit = form(r"[0-9a-f]{40}", "a commit: 40 hex digits")


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run one command and return the exit code."""
    top = parser()
    top.set_defaults(run=partial(act, environ=environ))
    return run(top, arguments, Refused, GitError, KeyProblem)


def act(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Take the step that a command names, and tell later ones what came of it. Raises Refused, GitError, KeyProblem."""
    with keyring(public_keys(), environ.get("SIGNING_KEY", "")) as keys:
        outputs: Outputs = options.step(lambda stage: Branch(Path(), stage, keys, options.remote), options)
    if path := environ.get("GITHUB_OUTPUT"):
        with Path(path).open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in outputs.items())
    return 0


def run_plan(open_: Open, options: argparse.Namespace) -> Outputs:
    """Print what a stage is to be rendered from: for prod what main has approved, else a new image."""
    stage: Stage = options.stage
    if stage.name in REVIEWED:
        wanted = _approved()
        outputs = {"source": wanted.source, **_images(wanted.digests)}
    else:
        outputs = {"source": options.main, **_images(Digests(_built(options), manifests.weights_of(stage)))}
    print(f"{stage.name}: {', '.join(outputs.values())}")
    return outputs


def run_publish(open_: Open, options: argparse.Namespace) -> Outputs:
    """Push a stage's rendered manifests to its branch."""
    branch, reverts, source = open_(options.stage.name), "", options.main
    folder = branch.store(manifests.read(options.manifests))
    if branch.stage in REVIEWED:
        wanted = _approved()
        if branch.digests(folder) != wanted.digests:
            raise Refused(f"{options.manifests} has other digests than delivery/prod.json: render what was approved")
        check_approved(open_("dev"), branch, wanted)
        source, reverts = wanted.source, wanted.reverts
    elif branch.digests(folder) != Digests(_built(options), manifests.weights_of(options.stage)):
        raise Refused(f"{options.manifests} has other digests than what was built: render that")
    for commit in (options.main, source):
        branch.check_on_main(commit)
    commit = publish(branch, folder=folder, source=source, main=options.main, reverts=reverts)
    print(f"{branch.stage} gets {source[:12]}." if commit else f"{branch.stage} has these manifests already.")
    return {"commit": commit or ""}


def run_source(open_: Open, options: argparse.Namespace) -> Outputs:
    """Print what a stage runs: the commit of main that rendered it, and its digests."""
    branch = open_(options.stage.name)
    tip = branch.fetch()
    if tip is None:
        raise Refused(f"stage {branch.stage} runs nothing yet")
    source = branch.release(tip).source
    print(source)
    return {"source": source, **_images(branch.digests(tip))}


def run_promote(open_: Open, options: argparse.Namespace) -> Outputs:
    """Propose for prod what dev runs."""
    prod = open_("prod")
    folder = prod.store(manifests.read(options.manifests))
    proposal = promote(open_("dev"), prod, source=options.source, folder=folder)
    print(proposal.text if proposal else "prod has these manifests already.")
    return outputs_of(proposal)


def run_revert(open_: Open, options: argparse.Namespace) -> Outputs:
    """Roll back a release that failed, or roll back to one that a person names."""
    branch = open_(options.stage.name)
    if options.to:
        choose = rollback.on_request(branch, to=options.to)
    else:
        choose = rollback.after_failure(branch, revision=options.revision)
    act_on = rollback.propose_revert if branch.stage in REVIEWED else rollback.revert
    try:
        done = act_on(branch, choose)
    except rollback.Superseded as reason:
        print(f"Nothing was rolled back: {reason}.")
        return {"bad": "", **outputs_of(None)}
    taken_back = f"{branch.stage} was rolled back from {done.bad.source} to {done.source}."
    print(done.proposal.text if done.proposal else taken_back)
    return {"bad": done.bad.source, **outputs_of(done.proposal)}


def run_live(open_: Open, options: argparse.Namespace) -> Outputs:
    """Check that the release that should be live is live, and find what is known of the one that passed before it."""
    branch = open_(options.stage.name)
    found = live.check_live(branch, revision=options.revision, images=options.images)
    note = ", but the branch has a newer release by now" if found.superseded else ""
    print(f"{branch.stage} runs {found.release.source} as {found.image}{note}.")
    record = live.last_seen(branch, options.revision).record
    superseded, releases = str(found.superseded).lower(), json.dumps(found.releases) if found.releases else ""
    return {"source": found.release.source, "superseded": superseded, "releases": releases, "record": record}


def run_address(open_: Open, options: argparse.Namespace) -> Outputs:
    """Print where a stage answers."""
    url = address(options.stage, Context.from_cdk_json(), options.urls)
    print(url)
    return {"url": url}


def run_passed(open_: Open, options: argparse.Namespace) -> Outputs:
    """Record that a release passed its smoke test, and what that saw."""
    noted = live.mark_passed(open_(options.stage.name), options.revision, Seen(options.judgement, options.record))
    print("Noted as good." if noted else f"Not noted as good: {options.stage.name} has moved on.")
    return {}


def outputs_of(proposal: Proposal | None) -> Outputs:
    """Return the branch to open a pull request from; empty if there is none."""
    return {"head": proposal.head if proposal else ""}


def _built(options: argparse.Namespace) -> str:
    """Return the image that a commit of main has built. Refuses to go on without it."""
    if not options.image or not options.main:
        name = options.stage.name
        raise Refused(f"--image and --main are missing: stage {name} releases what a commit of main has built")
    image: str = options.image
    return image


def _images(digests: Digests) -> Outputs:
    """Return the digests as the command that renders takes them."""
    return {"image": digests.image, "weights": digests.weights_text}


def _approved() -> approved.Approved:
    found = approved.read(approved.PATH)
    if found is None:
        raise Refused("delivery/prod.json is empty: the workflow promote proposes a release for prod")
    return found


def parser() -> Parser:
    """Return the parser of the command line."""
    top = Parser(prog="python -m delivery", description="Move releases on the stages' branches, and check them.")
    top.add_argument("--remote", default="origin", help="the branches' repository: a remote's name or an address")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, step: Callable[[Open, argparse.Namespace], Outputs], **needed: Reader[object]) -> Parser:
        command: Parser = commands.add_parser(name, help=step.__doc__)
        for option, read in needed.items():
            command.add_argument(f"--{option}", type=read, required=True)
        command.set_defaults(step=step)
        return command

    plan = add("plan", run_plan, stage=read_stage)
    plan.add_argument("--image", type=read_digest, help="digest of the image that was built")
    plan.add_argument("--main", type=read_commit, help="commit of main that it was built from")
    publishing = add("publish", run_publish, stage=read_stage, manifests=Path, main=read_commit)
    publishing.add_argument("--image", type=read_digest, help="digest of the image that was built")
    add("source", run_source, stage=read_stage)
    add("promote", run_promote, source=read_commit, manifests=Path)
    which = add("revert", run_revert, stage=read_stage).add_mutually_exclusive_group(required=True)
    which.add_argument("--revision", type=read_commit, help="commit of the branch that failed")
    which.add_argument("--to", type=read_commit, help="commit of the branch to go back to")
    add("live", run_live, stage=read_stage, revision=read_commit, images=json_list)
    where = add("address", run_address, stage=read_stage)
    where.add_argument("--urls", type=json_list, default=[], help="what Argo CD says that it is reached by")
    passed = add("passed", run_passed, stage=read_stage, revision=read_commit)
    passed.add_argument("--judgement", type=read_judgement, default="", help="what was seen, and how sure that is")
    passed.add_argument("--record", type=read_record, default="", help="what the next release is compared with")
    return top


def json_list(text: str) -> list[str]:
    """Return the texts in a JSON list, none for null."""
    try:
        found = json.loads(text)
    except ValueError:
        found = text
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a JSON list of texts")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
