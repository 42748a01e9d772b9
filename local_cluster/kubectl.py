"""Commands on the local cluster, and the scripts that start it and its parts.

The scripts are in the folder of the `up` that CLUSTER_UP names, by default in local_cluster/kind. `up` starts the
cluster; `argocd` installs Argo CD and prints the admin password; `git-server NAME` prints the URL of a repository that
this machine and pods can read and push to; `lib.sh` is sourced: it puts the cluster's tools on PATH, and sets
KUBECONFIG, node_ip (this machine as pods see it), registry and state (a folder for files).
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = Path(os.environ.get("CLUSTER_UP") or ROOT / "local_cluster/kind/up").absolute().parent
Object = dict[str, Any]
Seen = TypeVar("Seen")


class ClusterError(Exception):
    """A command failed; the message has the command and its output."""


@cache
def environ() -> dict[str, str]:
    """Return the environment for commands on the cluster. Raises ClusterError where there are no scripts."""
    if not (SCRIPTS / "lib.sh").exists():
        raise ClusterError(f"{SCRIPTS} has no lib.sh: CLUSTER_UP must name a script that starts a cluster")
    script = f". '{SCRIPTS}/lib.sh' && export node_ip registry state && env --null"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    return dict(pair.split("=", 1) for pair in done.stdout.split("\0") if "=" in pair)


def run(*command: str, stdin: str | None = None, cwd: Path = ROOT) -> str:
    """Run a command with the cluster's tools on PATH, and return its output. Raises ClusterError."""
    done = subprocess.run(command, input=stdin, env=environ(), cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise ClusterError(f"{' '.join(command)}: {(done.stdout + done.stderr).strip()[-4000:]}")
    return done.stdout.strip()


def script(name: str, *arguments: str) -> str:
    """Run one of the cluster's scripts and return the last line it prints."""
    lines = run(str(SCRIPTS / name), *arguments).splitlines()
    return lines[-1] if lines else ""


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """Run a kubectl command and return its output."""
    return run("kubectl", *arguments, stdin=stdin)


def get(kind: str, name: str, namespace: str) -> Any:
    """Return an object, or None if it doesn't exist."""
    text = kubectl("get", kind, name, "--namespace", namespace, "--ignore-not-found", "--output", "json")
    return json.loads(text) if text else None


def pods(namespace: str, component: str) -> list[Any]:
    """Return a component's pods that aren't terminating, the oldest first."""
    label = f"app.kubernetes.io/component={component}"
    options = ["--selector", label, "--sort-by", ".metadata.creationTimestamp", "--output", "json"]
    found = json.loads(kubectl("get", "pods", "--namespace", namespace, *options))["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def is_ready(pod: Object) -> bool:
    """Return whether a pod is ready and not terminating."""
    conditions = pod["status"].get("conditions", [])
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def apply(objects: Sequence[Object], manager: str) -> None:
    """Apply the objects, with `manager` as the owner of their fields."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    kubectl("apply", "--server-side", "--force-conflicts", "--field-manager", manager, "--filename", "-", stdin=text)


def allow_this_machine(namespace: str, manager: str) -> None:
    """Let this machine, which is no pod, connect to a namespace's pods where the cluster enforces NetworkPolicies."""
    here = {"ipBlock": {"cidr": f"{environ()['node_ip']}/32"}}
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "this-machine", "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [here]}]},
    }
    apply([policy], manager)


def eventually(condition: Callable[[], Seen], seconds: float) -> Seen:
    """Return the condition's value as soon as it is true; it is polled every second. Raises ClusterError."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > until:
            raise ClusterError(f"timed out after {seconds:.0f} s")
        time.sleep(1)  # each look is a process that takes a tenth of a second of CPU, on machines with two CPUs
    return value
