"""`python -m local_cluster.demo`: the whole delivery loop, from an image to a release that is rolled back.

CLUSTER_UP=…/up uses another cluster than kind's; Ctrl-C ends the demo.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from urllib.request import Request, urlopen

from argocd.objects import GitRemote
from command_line import InputError, Parser, run
from config import LOCAL
from delivery.branch import Refused
from delivery.git import GitError
from delivery.signing import KeyProblem
from launcher.cache import cache_dir
from launcher.console import Problem, Progress, say
from loadtest.judging.smoke import Ending
from local_cluster import images
from local_cluster.kubectl import SCRIPTS, ClusterError, environ, eventually, script
from local_cluster.release import DeliveryLoop, local_keys

URL, ARGO_CD = "http://localhost:8000", "https://localhost:8080"
QUESTION = "What is the capital of France?"
MISSING_IMAGE = "sha256:" + "0" * 64


def main(arguments: list[str]) -> int:
    """Run the demo, then keep the ports open until Ctrl-C; return the exit code."""
    parser = Parser(prog="python -m local_cluster.demo", description="Show the whole loop on a local cluster.")
    parser.add_argument("--once", action="store_true", help="end after the last step, without keeping the ports open")
    parser.set_defaults(run=demonstrate)
    return run(parser, arguments, ClusterError, Problem, Refused, GitError, KeyProblem)


def demonstrate(options: argparse.Namespace) -> int:
    """Run the demo. Raises InputError, ClusterError, Problem, Refused, GitError or KeyProblem."""
    if not (SCRIPTS / "up").exists():
        raise InputError(f"{SCRIPTS}/up doesn't exist: CLUSTER_UP must name a script that starts a cluster")
    with ExitStack() as stack:
        try:
            return show(stack, stay=not options.once)
        except KeyboardInterrupt:
            say("\nThe cluster is still running, and `make demo` continues with it.")
            return 0


def show(stack: ExitStack, *, stay: bool) -> int:
    """Run every step."""
    say("Sluice on a Kubernetes cluster of your own: from an image to a release that is rolled back.\n")
    with Progress("1. The cluster, its registry and a Git server"):
        script("up")
        keys, url = local_keys(), script("git-server", "sluice-demo")
        remote = GitRemote(repository="sluice/demo", repo_url=url, keys=keys.export())
    image, weights = build()
    with Progress("3. Argo CD, which syncs the cluster to the stage's branch"):
        password = script("argocd")
    loop = DeliveryLoop(LOCAL, remote, keys)
    first = release(loop, image, weights)
    stack.enter_context(Forward("service/sluice", LOCAL.namespace, "8000:80"))
    stack.enter_context(Forward("service/argocd-server", "argocd", "8080:443"))
    check(loop, first)
    roll_back(loop, weights)
    say(ENDING.format(password=password, kubeconfig=environ()["KUBECONFIG"], branch=remote.repo_url))
    if stay:
        say("Ctrl-C closes these two ports.")
        threading.Event().wait()
    return 0


def build() -> tuple[str, str]:
    """Build and push both images, and return their digests."""
    say("2. Two images, each pinned by its digest: the service, and a model's weights. They change independently.")
    with Progress("   the service"):
        image = images.build_gateway()
        images.push_proxy()
    with Progress(f"   the weights of {LOCAL.model.name}"):
        weights = images.build_weights(images.fill_store(cache_dir(os.environ) / "demo-models"))
    return image, weights


def release(loop: DeliveryLoop, image: str, weights: str) -> str:
    """Publish a release, and return its commit once it runs."""
    say("4. A release: config/stages.py's LOCAL and the two digests, rendered to YAML, committed and signed.")
    loop.install()
    revision = published(loop, lambda: loop.release(image=image, weights=weights))
    with Progress(f"   Argo CD syncs {revision[:12]}, and the pods load the model") as progress:
        end = eventually(lambda: settled(loop, revision, progress), 600)
    if end == "failed":
        raise ClusterError(f"the release failed: kubectl --namespace {LOCAL.namespace} get pods")
    return revision


def published(loop: DeliveryLoop, publish: Callable[[], str]) -> str:
    """Return the commit of a release, which is the branch's tip where an earlier run has published the same."""
    try:
        return publish()
    except ClusterError as error:
        if "already" not in str(error):
            raise
        return loop.refresh(loop.branch.fetch())


def settled(loop: DeliveryLoop, revision: str, progress: Progress) -> str:
    """Return how a release has ended, or "" while it is in progress."""
    state = loop.state(revision)
    progress.show(state)
    return state if state in ("synced", "failed") else ""


def check(loop: DeliveryLoop, revision: str) -> None:
    """Ask the release once, then run its smoke test."""
    eventually(lambda: answer() is not None, 60)
    say(f"5. An answer. {QUESTION}\n   {answer()}")
    with Progress("6. The smoke test that follows every sync: k6 asks questions with known answers"):
        judgement = loop.smoke(URL, revision)
        if judgement.ending is not Ending.PASSED:
            raise ClusterError(f"the smoke test failed: {judgement.text}")
        loop.passed(revision, judgement)
    say(f"   {judgement.text}\n   A later release that fails is rolled back to this one.")


def roll_back(loop: DeliveryLoop, weights: str) -> None:
    """Publish a release that can't start, and revert it while the previous one goes on answering."""
    say("7. A bad release: its image was never pushed.")
    bad = loop.release(image=MISSING_IMAGE, weights=weights)
    with Progress(f"   Argo CD syncs {bad[:12]}; its pods can't start, the previous ones stay") as progress:
        eventually(lambda: settled(loop, bad, progress), 600)
    say(f"   Meanwhile: {answer()}")
    good = loop.roll_back(bad)
    with Progress(f"8. Rollback: {good[:12]} reverts it on the branch") as progress:
        eventually(lambda: settled(loop, good, progress), 600)
    say(f"   {answer()}")


def answer() -> str | None:
    """Ask the question and return the answer, or None if there is none."""
    body = json.dumps({"prompt": QUESTION, "temperature": 0}).encode()
    request = Request(f"{URL}/generate", body)  # noqa: S310
    try:
        with urlopen(request, timeout=LOCAL.client_timeout) as reply:  # noqa: S310
            return str(json.load(reply)["response"]).strip()
    except OSError:
        return None


class Forward:
    """A local port that is forwarded to a Service, again whenever the pod behind it ends."""

    def __init__(self, service: str, namespace: str, ports: str) -> None:
        self._command = ["kubectl", "--namespace", namespace, "port-forward", service, ports]
        self._ended = threading.Event()

    def __enter__(self) -> None:
        self._process = self._start()
        threading.Thread(target=self._watch, daemon=True).start()

    def _start(self) -> subprocess.Popen[bytes]:
        quiet = subprocess.DEVNULL
        return subprocess.Popen(self._command, env=environ(), stdout=quiet, stderr=quiet, start_new_session=True)

    def _watch(self) -> None:
        while not self._ended.is_set():
            self._process.wait()
            if not self._ended.wait(0.5):
                self._process = self._start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._process.terminate()
        self._process.wait()


ENDING = f"""
The service    {URL}
Argo CD        {ARGO_CD}, user admin, password {{password}}
kubectl        export KUBECONFIG={{kubeconfig}}
The branch     git clone --branch stages/local {{branch}}

Next, try:

  curl {URL}/generate -d '{{{{"prompt": "Why is the sky blue?"}}}}'
  kubectl --namespace {LOCAL.namespace} delete pod --selector app.kubernetes.io/component=sluice --wait=false
"""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
