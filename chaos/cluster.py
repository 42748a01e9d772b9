"""`python -m chaos cluster`: things break on the local cluster, one after the other, under an honest load."""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from cdk8s_manifests.names import GATEWAY, PROXY
from chaos import nodes
from chaos.breaks import FOR, during
from chaos.observe import HEAD, NEVER, observe
from chaos.on_cluster import chaos_stage, cluster_image
from loadtest.balancing.disturbances import find_proxy
from loadtest.on_cluster import deploy, images
from loadtest.reporting.document import Table
from loadtest.reporting.part import publish
from local_cluster.kubectl import kubectl, script

NAMESPACE, PODS = "sluice-x-chaos", 3
NOTE = (
    f"{PODS} pods with the stand-in engine behind two HAProxies, the stage's own manifests; honest callers send 4 "
    f"requests/s, half of them streamed. What can't be killed is frozen for {FOR:g} s."
)


def breaks() -> dict[str, Callable[[], None]]:
    """Return every break by its name."""
    found = {"`kill -9` of the HAProxy that holds the queue": kill_holder}
    for container in next_to_haproxy():
        found[f"`kill -9` of the {container} next to the HAProxy that holds the queue"] = killing_next_to_holder(
            container
        )
    for container in ("gateway", "ollama"):
        found[f"`kill -9` of a pod's {container}"] = killing(container)
    found["`kill -9` of a pod's sandbox and of its containers' parent"] = kill_sandbox
    found["a pod deleted without grace"] = delete_pod
    for name, words in PARTS.items():
        found[f"{words} stands still"] = during(partial(nodes.frozen, name))
    found["Argo CD's repo server is gone"] = during(
        lambda: nodes.scaled_to_nothing("argocd", "deployment/argocd-repo-server")
    )
    return found


PARTS = {
    "apiserver": "the API server",
    "kubelet": "the kubelet",
    "registry": "the registry",
    "git-server": "the Git server",
}


def holder() -> Any:
    """Return the pod of the HAProxy that has the queue."""
    name = find_proxy(NAMESPACE, holder=True)
    return next(pod for pod in deploy.ready(NAMESPACE, PROXY) if pod["metadata"]["name"] == name)


def next_to_haproxy() -> list[str]:
    """Return the other containers of HAProxy's pods."""
    spec = nodes.pod_of(NAMESPACE, PROXY)["spec"]
    containers = [*spec["containers"], *spec.get("initContainers", [])]
    return [each["name"] for each in containers if each["name"] != "haproxy"]


def kill_holder() -> None:
    """Kill the HAProxy that has the queue, with all that runs in its container."""
    nodes.kill_container(holder(), "haproxy")


def killing_next_to_holder(container: str) -> Callable[[], None]:
    """Return a break that kills a container next to the HAProxy that has the queue."""
    return lambda: nodes.kill_container(holder(), container)


def killing(container: str) -> Callable[[], None]:
    """Return a break that kills a container of the oldest pod."""
    return lambda: nodes.kill_container(nodes.pod_of(NAMESPACE, GATEWAY), container)


def kill_sandbox() -> None:
    """Kill what holds the oldest pod together."""
    nodes.kill_sandbox(nodes.pod_of(NAMESPACE, GATEWAY))


def delete_pod() -> None:
    """Delete the newest pod at once."""
    name = nodes.pod_of(NAMESPACE, GATEWAY, PODS - 1)["metadata"]["name"]
    options = ("--namespace", NAMESPACE, "--force", "--grace-period=0", "--wait=false")
    kubectl("delete", "pod", name, *options)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--publish", action="store_true", help="rewrite docs/reliability.md")
    parser.add_argument("--only", default="", help="only the breaks whose name has this text")


def run(options: argparse.Namespace) -> int:
    """Break things and return the exit code: 1 where callers never got answers again."""
    stage = chaos_stage(NAMESPACE, PODS)
    script("argocd")  # this and the Git server break too, and have no part in answering
    script("git-server", "sluice-chaos")
    with deploy.sluice(stage, image=cluster_image(), weights=images.no_weights()) as url:
        found = []
        for name, action in breaks().items():
            if options.only not in name:
                continue
            found.append(observe(name, url, action).row())
            deploy.await_pods(NAMESPACE, GATEWAY, PODS)
            deploy.await_pods(NAMESPACE, PROXY, stage.proxy_replicas)
            time.sleep(2)
    table = Table([HEAD, *found])
    publish("reliability.md", "cluster", table, command="python -m chaos cluster", note=NOTE, rewrite=options.publish)
    return int(any(NEVER in row for row in found))
