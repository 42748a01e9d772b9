"""A stage that a real Argo CD delivers, and what GitHub would do for it."""

import os
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from argocd.objects import GitRemote
from cdk8s_manifests.names import GATEWAY, NAME, PROXY
from config import Stage
from loadtest.judging.smoke import Ending
from local_cluster.kubectl import allow_this_machine, eventually, kubectl, pods, script
from local_cluster.release import DeliveryLoop, local_keys
from tests.e2e import images
from tests.e2e.cluster import Receiver, argo_cd

WEBHOOK = os.environ.get("WEBHOOK") != "false"  # without one, Argo CD looks every two to three minutes


class Delivered:
    """The stage, and what GitHub would do for it: the smoke after each sync, the rollback after a failure."""

    def __init__(self, stage: Stage, stack: ExitStack) -> None:
        self.stage = stage = replace(stage, smoke_at_least=1, smoke_at_most=5)  # how sure it is doesn't matter here
        stack.enter_context(argo_cd())
        self.receiver = Receiver()
        stack.callback(self.receiver.stop)
        name = f"sluice-{stage.name}-{time.time_ns()}"  # a repository of its own, without an earlier run's releases
        keys, url = local_keys(), script("git-server", name)
        remote = GitRemote(repository="owner/name", repo_url=url, api_url=self.receiver.url, keys=keys.export())
        self.loop = DeliveryLoop(stage, remote, keys, webhook=WEBHOOK)
        stack.callback(self.loop.remove)
        images.proxy()
        self.loop.install()
        allow_this_machine(stage.namespace, "sluice-test")
        kubectl("-n", "argocd", "rollout", "restart", "deployment/argocd-notifications-controller")

    @property
    def host(self) -> str:
        service = ["get", "service", NAME, "--output", "jsonpath={.spec.clusterIP}"]
        return kubectl("--namespace", self.stage.namespace, *service)

    def release(self, **changes: Any) -> str:
        """Publish; image and weights are the good ones unless `changes` has others."""
        digests = {"image": images.gateway(), "weights": images.weights()}
        return self.loop.release(**{**digests, **changes})

    def notice(self, revision: str) -> str:
        """Return what GitHub is told of a revision, as soon as it is."""
        return str(eventually(lambda: self.notices(revision), 300)[0])

    def notices(self, revision: str) -> list[str]:
        bodies = [body for _, _, body in self.receiver.posts]
        return [body["event_type"] for body in bodies if body["client_payload"]["revision"] == revision]

    def work(self, revision: str) -> str | None:
        """Do as the workflows: return None for a release that has passed, else the commit that takes it back."""
        if self.notice(revision) == "sluice-synced":
            judgement = self.loop.smoke(f"http://{self.host}", revision)
            print(judgement.text)
            if judgement.ending is Ending.PASSED:
                self.loop.passed(revision, judgement)
                return None
        return self.loop.roll_back(revision)

    def runs(self, image: str) -> bool:
        """Say whether every pod and every front is ready, and of this image."""
        found = self.pods() + self.pods(PROXY)
        images = {pod["spec"]["containers"][0]["image"].partition("@")[2] for pod in found}
        ready = [each["ready"] for pod in found for each in pod["status"].get("containerStatuses", [])]
        return images == {image} and ready == [True] * (self.stage.min_replicas + self.stage.proxy_replicas)

    def pods(self, component: str = GATEWAY) -> list[Any]:
        """Return the gateway's pods, or a component's, but for those that are about to end."""
        return pods(self.stage.namespace, component)
