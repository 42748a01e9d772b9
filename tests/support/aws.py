"""moto as AWS on loopback, for the real CDK command line."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]

from context import FORMS
from testbed import ROOT
from testbed.fetching import fetch
from testbed.ports import free_port
from testbed.waiting import eventually
from tests.support.needs import CDK

ACCOUNT, REGION = "123456789012", "eu-central-1"  # the account is the one that moto gives to every caller
# Whatever the repository's own cdk.json says: its owner has filled it in.
CONTEXT = {
    **dict.fromkeys(FORMS, ""),
    "account": ACCOUNT,
    "region": REGION,
    "github_owner": "octo",
    "github_owner_id": "1234",
    "github_repository": "sluice",
    "github_repository_id": "5678",
    "admin_arns": f"arn:aws:iam::{ACCOUNT}:role/admin",
    "alert_emails": "ops@example.com",
}


@dataclass
class Aws:
    """A running moto, empty at first."""

    port: int

    @property
    def environ(self) -> dict[str, str]:
        """Return the environment in which AWS's tools talk to it.

        By the name localhost: moto takes a template from its own S3 only if the URL has that in it.
        """
        credentials = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": REGION}
        quiet = {"CDK_DISABLE_CLI_TELEMETRY": "true", "NODE_NO_WARNINGS": "1", "AWS_EC2_METADATA_DISABLED": "true"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_"))}
        return kept | credentials | quiet | {"AWS_ENDPOINT_URL": f"http://localhost:{self.port}"}

    def client(self, service: str) -> Any:
        """Return boto3's client of a service."""
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        return boto3.client(service, REGION, endpoint_url=f"http://127.0.0.1:{self.port}", **keys)

    def cdk(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `cdk` with these arguments, to its end."""
        command = [str(CDK), "--no-color", "--ci", "--no-notices", *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.environ, text=True, capture_output=True, timeout=300)


class Deployment:
    """An account in moto into which those stacks were deployed, from one synthesis."""

    def __init__(self, aws: Aws, assembly: Path) -> None:
        self.aws, self.assembly = aws, assembly

    def synthesise(self, *arguments: str) -> None:
        """Synthesise DEV into the assembly."""
        context = [f"--context={name}={value}" for name, value in {"stage": "dev", **CONTEXT}.items()]
        result = self.aws.cdk("synth", "--quiet", "--output", str(self.assembly), *arguments, *context)
        assert result.returncode == 0, result.stdout + result.stderr

    def cdk(self, command: str, *arguments: str) -> str:
        """Run a command of `cdk` on the synthesised stacks and return what it says; it must succeed."""
        result = self.aws.cdk(command, "--app", str(self.assembly), *arguments)
        assert result.returncode == 0, f"cdk {command}: {result.stdout}{result.stderr}"
        return result.stdout + result.stderr

    def resources(self, type_: str) -> list[dict[str, Any]]:
        """Return the properties of all resources of a type in all synthesised stacks, the cluster's too."""
        templates = [json.loads(path.read_text()) for path in self.assembly.glob("*.template.json")]
        resources = [resource for template in templates for resource in template["Resources"].values()]
        return [resource.get("Properties", {}) for resource in resources if resource["Type"] == type_]

    def stack(self, name: str) -> dict[str, Any]:
        """Return what CloudFormation says of a stack."""
        found: dict[str, Any] = self.aws.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        return found

    def stack_names(self) -> set[str]:
        """Return the names of the stacks there are, but the bootstrap's."""
        stacks = self.aws.client("cloudformation").describe_stacks()["Stacks"]
        return {stack["StackName"] for stack in stacks} - {"CDKToolkit"}

    def trust(self, role: str) -> dict[str, Any]:
        """Return the only statement of a role's trust policy."""
        document = self.aws.client("iam").get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
        (statement,) = document["Statement"]
        found: dict[str, Any] = statement
        return found

    def repositories(self) -> dict[str, Any]:
        """Return the image repositories by name, but the bootstrap's."""
        found = self.aws.client("ecr").describe_repositories()["repositories"]
        names = {repository["repositoryName"]: repository for repository in found}
        return {name: repository for name, repository in names.items() if not name.startswith("cdk-")}

    def vpcs(self) -> list[dict[str, Any]]:
        """Return the VPCs, but the default one."""
        filters = [{"Name": "is-default", "Values": ["false"]}]
        found: list[dict[str, Any]] = self.aws.client("ec2").describe_vpcs(Filters=filters)["Vpcs"]
        return found


@contextmanager
def run_moto(log: Path) -> Iterator[Aws]:
    """Run moto until the block ends."""
    aws = Aws(free_port())
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", f"from tests.support import moto_gaps; moto_gaps.serve({aws.port})"],
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
        )

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return fetch(f"http://127.0.0.1:{aws.port}/moto-api/").status == 200
        except OSError:
            return False

    try:
        eventually(ready, 60)
        yield aws
    finally:
        process.kill()
        process.wait()
