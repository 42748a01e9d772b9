"""The delivery loop on the local cluster: release, sync, smoke test, then keep the release or roll it back.

What CI's key and its protection are on GitHub is a key in the cluster's folder of files here, made at the first start.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from argocd.objects import GitRemote, Object, admission, settings, sluice
from cdk8s_manifests.main import render
from config import Stage
from delivery.branch import Branch
from delivery.digests import read_releases
from delivery.git import git
from delivery.live import last_seen, mark_passed
from delivery.publish import publish
from delivery.rollback import after_failure, revert
from delivery.seen import Seen
from delivery.signing import Keyring, create
from launcher.cache import exclusive
from loadtest.address import Address
from loadtest.judging import smoke
from loadtest.judging.record import read_records
from loadtest.judging.smoke import Ending, Judgement, Smoke
from local_cluster.kubectl import ROOT, ClusterError, apply, environ, eventually, get, kubectl

MANAGER = "sluice-demo"
REPO_SERVER = "deployment/argocd-repo-server"  # the part of Argo CD that checks signatures
REFRESH = "argocd.argoproj.io/refresh"
SYNC_SECONDS = 300


@dataclass(frozen=True)
class DeliveryLoop:
    """A stage, its branch at `remote.repo_url`, whose commits `keys` signs, and the Argo CD that follows it.

    webhook: notify Argo CD of each commit; otherwise it finds the commit when it next polls the branch.
    """

    stage: Stage
    remote: GitRemote
    keys: Keyring
    webhook: bool = True

    @property
    def application(self) -> str:
        """Return the Application's name."""
        return f"sluice-{self.stage.name}"

    @property
    def branch(self) -> Branch:
        """Return the stage's branch, written from this checkout."""
        return Branch(ROOT, self.stage.name, self.keys, self.remote.repo_url)

    def install(self) -> None:
        """Register the stage with Argo CD."""
        token: Object = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "argocd-notifications-secret", "namespace": "argocd"},
            "stringData": {"github-token": "none"},
        }
        trust(self.remote, [*settings(self.stage, self.remote), token, *sluice(self.stage, self.remote)], MANAGER)

    def release(
        self, *, image: str, weights: str, more_weights: Mapping[str, str] = MappingProxyType({}), **changes: Any
    ) -> str:
        """Put a release of these digests on the branch, and return its commit.

        weights: of the stage's model; more_weights: of each other one, by its name. changes: of the Stage.
        """
        stage = replace(self.stage, **changes)
        files = render(stage, image=image, weights={stage.model.name: weights, **more_weights}, context=None)
        source, branch = git(ROOT, "rev-parse", "HEAD"), self.branch
        return self.refresh(publish(branch, folder=branch.store(files), source=source, main=source))

    def roll_back(self, revision: str) -> str:
        """Revert the release at `revision` and return the commit."""
        revert(self.branch, after_failure(self.branch, revision=revision))
        return self.refresh(self.branch.fetch())

    def refresh(self, commit: str | None) -> str:
        """Have Argo CD read the branch now, as a webhook would."""
        if commit is None:
            raise ClusterError("the branch has this release already")
        if not self.webhook:
            return commit
        refresh(self.application)
        return commit

    def state(self, revision: str) -> str:
        """Return `synced` once every pod of the release is ready, `failed` once it has failed, else how far it is."""
        status = (get("application", self.application, "argocd") or {}).get("status", {})
        operation, health = status.get("operationState", {}), status.get("health", {}).get("status", "Unknown")
        if operation.get("syncResult", {}).get("revision") != revision:
            return "not seen yet"
        if operation["phase"] in ("Error", "Failed") or health == "Degraded":
            return "failed"
        done = operation["phase"] == "Succeeded" and health == "Healthy" and status["sync"]["revision"] == revision
        return "synced" if done else f"sync {operation['phase']}, health {health}"

    def await_end(self, revision: str) -> str:
        """Wait for the release to end, and return `synced` or `failed`."""
        ends = ("synced", "failed")
        return eventually(lambda: state if (state := self.state(revision)) in ends else "", SYNC_SECONDS)

    def smoke(self, url: str, revision: str) -> Judgement:
        """Run the smoke test as .github/workflows/smoke.yml does, and return what came of it.

        Raises ClusterError if others' load kept it from asking, or another release answered: then the release is
        neither good nor bad.
        """
        live = read_records(last_seen(self.branch, revision).record)
        what = Smoke.of(self.stage, Address(url), releases=read_releases(ROOT, revision))
        judgement = asyncio.run(smoke.run(what, live))
        if judgement.ending in (Ending.BUSY, Ending.ELSEWHERE):
            raise ClusterError(judgement.text)
        return judgement

    def passed(self, revision: str, judgement: Judgement) -> None:
        """Mark the release as one to roll back to."""
        mark_passed(self.branch, revision, Seen(judgement.text, judgement.record))

    def remove(self) -> None:
        """Delete the Application with everything it created, and the namespace."""
        kubectl("delete", "application", self.application, "--namespace", "argocd", "--ignore-not-found")
        kubectl("delete", "namespace", self.stage.namespace, "--ignore-not-found")
        binding = f"sluice-release-order-{self.stage.name}"
        kubectl("delete", "validatingadmissionpolicybinding", binding, "--ignore-not-found")
        for each in admission(self.stage, self.stage.registry):
            if "namespace" not in each["metadata"]:
                kubectl("delete", each["kind"], each["metadata"]["name"], "--ignore-not-found")


def refresh(application: str) -> None:
    """Have Argo CD read an Application's branch now.

    A look that is under way doesn't see what was pushed since it began, and ends with removing the request, also one
    that came meanwhile: so there are two requests, the second once the first is gone. That takes minutes where Argo
    CD's watch of its Applications has stopped, until it makes a new one.
    """
    request = ("annotate", "--overwrite", "--namespace", "argocd", "application", application, f"{REFRESH}=normal")
    kubectl(*request)
    eventually(lambda: REFRESH not in get("application", application, "argocd")["metadata"]["annotations"], 600)
    kubectl(*request)


def local_keys() -> Keyring:
    """Return the key that signs the local cluster's releases, made if there is none."""
    home = Path(environ()["state"], "signing-keys")
    with exclusive(home):  # two processes would make two
        return create(home)


def trust(remote: GitRemote, objects: list[Object], manager: str) -> None:
    """Apply the objects, and wait until Argo CD knows the keys among them.

    It reads new ones when the kubelet brings them, after a minute or two, and keeps its judgement of a commit: so it is
    started again.
    """
    before = (get("configmap", "argocd-gpg-keys-cm", "argocd") or {}).get("data", {})
    apply(objects, manager)
    if remote.keys.items() <= before.items():
        return
    kubectl("--namespace", "argocd", "rollout", "restart", REPO_SERVER)
    kubectl("--namespace", "argocd", "rollout", "status", REPO_SERVER, "--timeout=120s")
