"""`python -m delivery.access`: a way to a cluster whose API only its VPC can reach, for whoever may use the account.

It starts the instance of stacks/access.py, forwards a local port through Session Manager to the cluster's API, and
terminates the instance at the end. Nothing listens in the VPC, and IAM says who may start a session.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from command_line import InputError, Parser, read_stage, region, run, whole
from config import ACCESS_MINUTES, Stage

TOOLS = {
    "aws": "https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html",
    "session-manager-plugin": "https://docs.aws.amazon.com/systems-manager/latest/userguide/install-plugin-linux.html",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
}
# Forwards a port of the instance's network: docs.aws.amazon.com/systems-manager/latest/userguide/
# session-manager-working-with-sessions-start.html#sessions-remote-port-forwarding
DOCUMENT = "AWS-StartPortForwardingSessionToRemoteHost"
START_SECONDS = 300  # for the instance to boot and its agent to register
NOT_YET = "TargetNotConnected"  # AWS's error while it hasn't


class AccessError(Exception):
    """There is no way to the cluster; the message is one sentence."""


def main(arguments: list[str]) -> int:
    """Open the way, wait for Ctrl-C, and return the exit code."""
    return run(parser(), arguments, AccessError, BotoCoreError, ClientError, interrupted="closed")


def parser() -> Parser:
    """Return the command line."""
    made = Parser(prog="python -m delivery.access", description="Open a way to a stage's cluster until Ctrl-C.")
    made.add_argument("--stage", type=read_stage, required=True)
    made.add_argument("--port", type=whole(1, 65535), default=8443, help="local port; default: %(default)s")
    made.set_defaults(run=open_way)
    return made


def open_way(options: argparse.Namespace) -> int:
    """Open the way and keep it open. Raises InputError or AccessError."""
    stage: Stage = options.stage
    if stage.node is None:
        raise InputError(f"stage {stage.name!r} isn't for AWS: its cluster needs no way in")
    for tool, page in TOOLS.items():
        if not shutil.which(tool):
            raise InputError(f"{tool} is missing: install it, {page}")
    with socket.socket() as sock:
        if sock.connect_ex(("127.0.0.1", options.port)) == 0:
            raise InputError(f"port {options.port} is taken: name another one with --port")
    session = boto3.Session(region_name=region(""))
    cluster = session.client("eks").describe_cluster(name=stage.cluster_name)["cluster"]
    path = write_kubeconfig(cluster, options.port, session.region_name)
    host = urlsplit(cluster["endpoint"]).hostname or ""
    print(f"starting an instance of {stage.access_name}: about a minute, and a cent an hour …", flush=True)
    with (
        instance(session.client("ec2"), stage) as target,
        forwarded(session.region_name, target, host, options.port) as process,
    ):
        print(
            f"The API of {stage.cluster_name} is open until Ctrl-C, for {ACCESS_MINUTES // 60} hours at most. In "
            f"another terminal:\n\n  export KUBECONFIG={path}\n  kubectl get nodes\n"
            "  kubectl -n argocd port-forward service/argocd-server 8080:443   # Argo CD, at https://localhost:8080\n",
            flush=True,
        )
        process.wait()
    raise AccessError("the session has ended, as it does after 20 minutes without traffic: run make access again")


def write_kubeconfig(cluster: dict[str, Any], port: int, region_name: str) -> Path:
    """Write what kubectl needs to reach the cluster by the local port, and return the path.

    The certificate is checked against the API's own name. Tokens come from the AWS CLI, with its user's rights.
    """
    name: str = cluster["name"]
    profile = [{"name": key, "value": os.environ[key]} for key in ("AWS_PROFILE",) if os.environ.get(key)]
    entry = {
        "server": f"https://127.0.0.1:{port}",
        "tls-server-name": urlsplit(cluster["endpoint"]).hostname,
        "certificate-authority-data": cluster["certificateAuthority"]["data"],
    }
    token = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "aws",
        "args": ["eks", "get-token", "--cluster-name", name, "--region", region_name],
        "env": profile,
        "interactiveMode": "Never",
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": entry}],
        "users": [{"name": name, "user": {"exec": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    path = Path.home() / ".kube" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(config, indent=2))  # which is YAML
    return path


@contextmanager
def instance(ec2: Any, stage: Stage) -> Iterator[str]:
    """Start an instance from the stage's launch template, and terminate it after the block; yields its id."""
    template = {"LaunchTemplateName": stage.access_name}
    started = ec2.run_instances(LaunchTemplate=template, MinCount=1, MaxCount=1)
    id_: str = started["Instances"][0]["InstanceId"]
    try:
        yield id_
    finally:
        ec2.terminate_instances(InstanceIds=[id_])


@contextmanager
def forwarded(region_name: str, target: str, host: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """Forward the local port to the host's 443 by way of the instance, as soon as that has started, for the block.

    Raises AccessError with what the AWS CLI says.
    """
    parameters = {"host": [host], "portNumber": ["443"], "localPortNumber": [str(port)]}
    command = ["aws", "ssm", "start-session", "--region", region_name, "--target", target]
    command += ["--document-name", DOCUMENT, "--parameters", json.dumps(parameters)]
    until, said = time.monotonic() + START_SECONDS, ""
    while time.monotonic() < until:
        # In a session of its own: Ctrl-C is for us, and we end it.
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            if _listens(port, lambda process=process: process.poll() is None and time.monotonic() < until):  # type: ignore[misc]
                yield process
                return
        finally:
            process.terminate()
            said = process.communicate()[1].strip()
        if NOT_YET not in said:
            break
        time.sleep(2)  # AWS can't be asked to wait
    raise AccessError(f"Session Manager can't reach the instance: {said or f'nothing after {START_SECONDS} s'}")


def _listens(port: int, still: Callable[[], bool]) -> bool:
    """Wait until something listens on the local port, and say whether that came while `still` was true."""
    while still():
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        time.sleep(0.1)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
