"""What the CDK app synthesises, read as plain JSON; each stage once a session, for it takes seconds."""

import atexit
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from aws_cdk import App, Stack
from aws_cdk.assertions import Template

from app import build
from config import Stage
from context import Context
from testbed import ROOT
from tests.support.aws import CONTEXT

Json = dict[str, Any]

ADMINS = ("arn:aws:iam::123456789012:role/admin", "arn:aws:iam::123456789012:user/ann")
OWNER = Context.read({**CONTEXT, "admin_arns": ", ".join((*ADMINS, ADMINS[0]))}.get)
NAMED = {"domain": "llm.example.com"}


@dataclass(frozen=True)
class Assembly:
    """The stacks of one stage; a stack is named by the last word of its name."""

    folder: Path

    def stacks(self) -> dict[str, Json]:
        paths = self.folder.glob("*.template.json")
        return {path.name.split(".")[0].split("-")[-1]: json.loads(path.read_text()) for path in paths}

    def resources(self, stack: str, kind: str) -> list[Json]:
        """Return every resource of this type, with its properties and policies."""
        return [each for each in self.stacks()[stack]["Resources"].values() if each["Type"] == kind]

    def properties(self, stack: str, kind: str) -> Json:
        """Return the properties of the only resource of this type."""
        (resource,) = self.resources(stack, kind)
        return dict(resource["Properties"])

    def everything(self) -> Iterator[tuple[str, str, Json]]:
        """Yield the stack, the logical id and the resource, of all."""
        for stack, template in self.stacks().items():
            for name, resource in template["Resources"].items():
                yield stack, name, resource

    def outputs(self, stack: str) -> Json:
        return {name: output["Value"] for name, output in self.stacks()[stack]["Outputs"].items()}

    def artifacts(self) -> Json:
        """Return what the CDK's manifest says of each stack, by its whole name."""
        artifacts = json.loads((self.folder / "manifest.json").read_text())["artifacts"]
        return {name: each for name, each in artifacts.items() if each["type"] == "aws:cloudformation:stack"}


def cdk_context(**changes: str) -> Json:
    """Return the CDK's context as cdk.json has it, with an owner's values."""
    return {**json.loads((ROOT / "cdk.json").read_text())["context"], **CONTEXT, **changes}


@cache
def synthesise(stage: Stage, **context: Any) -> Assembly:
    """Return the assembly of a stage, for an owner with further values in their context."""
    folder = tempfile.mkdtemp(prefix="sluice-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    unstaged = {"aws:cdk:disable-asset-staging": True}  # or each assembly has its copy of kubectl and the AWS CLI
    app = App(context=cdk_context() | unstaged, outdir=folder, builtin_cloud_formation_validation=False)
    build(app, stage=stage, context=replace(OWNER, **context))
    app.synth()
    return Assembly(Path(folder))


def text(value: Any) -> str:
    """Return what CloudFormation makes of a value, with `<Name>` or `<Name.Attribute>` for what it looks up."""
    match value:
        case {"Ref": name}:
            return f"<{name}>"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"<{name}.{attribute}>"
        case {"Fn::Join": [separator, parts]}:
            return str(separator.join(text(part) for part in parts))
        case str():
            return value
    return json.dumps(value)


def resources_of(stack: Stack, kind: str) -> list[Json]:
    """Return every resource of this type in a stack that belongs to no stage's assembly."""
    return [dict(each) for each in Template.from_stack(stack).find_resources(kind).values()]


def empty_app() -> App:
    """Return an app to put one stack into."""
    return App(builtin_cloud_formation_validation=False)
