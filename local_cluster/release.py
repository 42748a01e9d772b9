"""The delivery loop on the local cluster: release, sync, smoke test, then keep the release or roll it back."""

import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from argocd.objects import GitRemote, Object, settings, sluice
from cdk8s_manifests.main import render
from config import Stage
from delivery.branch import Branch
from delivery.git import git
from delivery.live import mark_passed
from delivery.publish import publish
from delivery.rollback import after_failure, revert
from local_cluster.kubectl import ROOT, ClusterError, apply, eventually, get, kubectl

MANAGER = "sluice-demo"
SYNC_SECONDS = 300
K6 = ROOT / ".venv/bin/k6"


@dataclass(frozen=True)
class DeliveryLoop:
    """A stage, its manifests branch at `remote.repo_url`, and the Argo CD that follows it.

    webhook: notify Argo CD of each commit; otherwise it finds the commit when it next polls the branch.
    """

    stage: Stage
    remote: GitRemote
    webhook: bool = True

    @property
    def application(self) -> str:
        """Return the Application's name."""
        return f"sluice-{self.stage.name}"

    @property
    def branch(self) -> Branch:
        """Return the manifests branch, written from this checkout."""
        return Branch(ROOT, self.remote.repo_url)

    def install(self) -> None:
        """Register the stage with Argo CD."""
        token: Object = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "argocd-notifications-secret", "namespace": "argocd"},
            "stringData": {"github-token": "none"},
        }
        apply([*settings(self.stage, self.remote), token, *sluice(self.stage, self.remote)], MANAGER)

    def release(self, *, image: str, weights: str, **changes: Any) -> str:
        """Put a release of these digests on the branch, and return its commit; changes: of the Stage."""
        files = render(replace(self.stage, **changes), image=image, weights=weights, context=None)
        source = git(ROOT, "rev-parse", "HEAD")
        about = f"image {image}\nweights {weights}"
        commit = publish(self.branch, stage=self.stage.name, files=files, source=source, about=about)
        return self.refresh(commit)

    def roll_back(self, revision: str) -> str:
        """Revert the release at `revision` and return the commit."""
        choose = after_failure(self.branch, stage=self.stage.name, revision=revision)
        revert(self.branch, choose, stage=self.stage.name, review=False)
        return self.refresh(self.branch.fetch())

    def refresh(self, commit: str | None) -> str:
        """Have Argo CD read the branch now, as a webhook would."""
        if commit is None:
            raise ClusterError("the branch has this release already")
        if not self.webhook:
            return commit
        annotation = "argocd.argoproj.io/refresh=normal"
        kubectl("annotate", "--overwrite", "--namespace", "argocd", "application", self.application, annotation)
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

    def smoke(self, url: str, report: Path) -> bool:
        """Run the smoke test as .github/workflows/smoke.yml does, and return whether the release passed."""
        variables = {"TARGET": url, "MODEL": self.stage.model.name, "TIMEOUT": str(self.stage.client_timeout)}
        environ = {**os.environ, **variables, "REPORT": str(report)}
        command = [str(K6), "run", "--quiet", "--no-usage-report", "loadtest/smoke.js"]
        return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True).returncode == 0

    def passed(self, revision: str) -> None:
        """Mark the release as one to roll back to."""
        mark_passed(self.branch, stage=self.stage.name, revision=revision)

    def remove(self) -> None:
        """Delete the Application with everything it created, and the namespace."""
        kubectl("delete", "application", self.application, "--namespace", "argocd", "--ignore-not-found")
        kubectl("delete", "namespace", self.stage.namespace, "--ignore-not-found")
