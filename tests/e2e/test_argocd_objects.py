"""argocd/ on a real Argo CD: what is pushed runs, what shouldn't doesn't, and GitHub's stand-in hears of each, once."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from argocd.objects import GitRemote, admission, settings, sluice
from config import LOCAL
from delivery.branch import ORDER
from delivery.signing import Keyring, create
from local_cluster.kubectl import Object, apply, environ, eventually, get, kubectl, run
from local_cluster.release import local_keys, refresh, trust
from tests.e2e import images
from tests.e2e.cluster import Receiver, Repository, argo_cd

STAGE = replace(LOCAL, name="argocd-test", namespace="sluice-argocd-test")
APPLICATION = f"sluice-{STAGE.name}"
MANAGER = "sluice-argocd-test"
MISSING = f"{LOCAL.registry}/sluice/gateway@sha256:{'0' * 64}"
RESTRICTED = {
    "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
    "terminationGracePeriodSeconds": 1,
}
LOAD_BALANCER = {"type": "LoadBalancer", "ports": [{"port": 80}]}
CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def config_map(greeting: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "greeting"}, "data": {"text": greeting}}


def deployment(version: str, *, image: str = LOCAL.proxy_image, label: str = "sluice", deadline: int = 120) -> Object:
    """Return a release whose pods take 3 seconds to count as available, and may take `deadline`."""
    container = {"name": "main", "image": image, "command": ["sleep", "infinity"], "securityContext": CONTAINER}
    pod = {
        "metadata": {"labels": {"app": "sluice"}, "annotations": {"version": version}},
        "spec": {**RESTRICTED, "containers": [container]},
    }
    spec = {"selector": {"matchLabels": {"app": label}}, "minReadySeconds": 3, "progressDeadlineSeconds": deadline}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "sluice"},
        "spec": {**spec, "template": pod},
    }


def order_of(number: int) -> Object:
    """Return what CI adds to the manifests."""
    made: Object = yaml.safe_load(ORDER.format(number=number))
    return made


def files(objects: dict[str, Object | None]) -> dict[str, str | None]:
    """Return the stage's files with these objects, None for one that goes."""
    return {f"{STAGE.name}/{name}.yaml": json.dumps(each) if each else None for name, each in objects.items()}


@dataclass
class Delivery:
    """The stage's branch, its Application, and who is told of its syncs."""

    repository: Repository
    receiver: Receiver
    password: str

    def release(self, **objects: Object | None) -> str:
        """Push a commit that CI signs with these objects, by the names of their files, and return its revision."""
        return self.push(local_keys(), objects)

    def push(self, keys: Keyring | None, objects: dict[str, Object | None]) -> str:
        """Push a commit that somebody signs, or nobody, have Argo CD look, and return its revision."""
        revision = self.repository.commit(files(objects), keys)
        refresh(APPLICATION)
        return revision

    def errors(self) -> str:
        """Return why Argo CD doesn't compare the branch with the cluster, as its UI says, or nothing."""
        conditions = get("application", APPLICATION, "argocd")["status"].get("conditions", [])
        return "; ".join(each["message"] for each in conditions if each["type"] == "ComparisonError")

    def shows(self, reason: str) -> bool:
        """Say whether the Application has a reason where Argo CD's UI shows it."""
        status = get("application", APPLICATION, "argocd")["status"]
        shown = [status["operationState"]["message"], *(each["message"] for each in status.get("conditions", []))]
        results = status["operationState"].get("syncResult", {}).get("resources", [])
        return any(reason in text for text in [*shown, *(each.get("message", "") for each in results)])

    def notices(self, revision: str) -> list[tuple[str, Any]]:
        """Return the type and payload of each notice of a revision, in the order they came."""
        bodies = [body for _, _, body in self.receiver.posts]
        return [
            (body["event_type"], body["client_payload"])
            for body in bodies
            if body["client_payload"]["revision"] == revision
        ]

    def notice(self, revision: str) -> tuple[str, Any]:
        """Return the first notice of a revision, as soon as it has come.

        A look that fails, as while CoreDNS can't answer, is repeated after three minutes.
        """
        return eventually(lambda: self.notices(revision), 300)[0]

    def synced(self, revision: str) -> Any:
        """Return the payload of a revision's first notice, as soon as it has come; it must be of a good end."""
        event, payload = self.notice(revision)
        assert event == "sluice-synced", payload
        return payload

    def failed(self, revision: str) -> Any:
        """Return the same of a revision that must come to a bad end."""
        event, payload = self.notice(revision)
        assert event == "sluice-sync-failed", payload
        return payload


def find(kind: str, name: str) -> Any:
    return get(kind, name, STAGE.namespace)


def greeting() -> Any:
    return (find("configmap", "greeting") or {"data": {}})["data"].get("text")


@pytest.fixture(scope="module")
def delivery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Delivery]:
    """Return a stage whose first release has been announced."""
    with ExitStack() as stack:
        password = stack.enter_context(argo_cd())
        images.proxy()
        receiver = Receiver()
        stack.callback(receiver.stop)
        repository = Repository("sluice-argocd-test", STAGE.name, tmp_path_factory.mktemp("clone"))
        keys = local_keys().export()
        remote = GitRemote(repository="owner/name", repo_url=repository.url, api_url=receiver.url, keys=keys)
        token: Object = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "argocd-notifications-secret", "namespace": "argocd"},
            "stringData": {"github-token": "not-a-real-one"},
        }
        namespace, *policies, project, application = sluice(STAGE, remote)
        stack.enter_context(put_back(remote, [*settings(STAGE, remote), token, project]))
        for each in admission(STAGE, LOCAL.registry):
            if "namespace" not in each["metadata"]:
                stack.callback(kubectl, "delete", each["kind"], each["metadata"]["name"], "--ignore-not-found")
        stack.callback(kubectl, "delete", "namespace", STAGE.namespace, "--ignore-not-found")
        stack.callback(kubectl, "-n", "argocd", "delete", "application", APPLICATION, "--ignore-not-found")
        # It may still be trying to tell the receiver of a run that was cut off.
        kubectl("-n", "argocd", "rollout", "restart", "deployment/argocd-notifications-controller")
        kubectl("-n", "argocd", "rollout", "status", "deployment/argocd-notifications-controller", "--timeout=60s")
        delivery = Delivery(repository, receiver, password)
        objects: dict[str, Object | None] = {"greeting": config_map("hello"), "deployment": deployment("1")}
        first = repository.commit(files({**objects, "release": order_of(1)}), local_keys())
        apply([namespace, *policies, application], MANAGER)
        delivery.synced(first)
        yield delivery


@contextmanager
def put_back(remote: GitRemote, objects: list[Object]) -> Iterator[None]:
    """Apply objects that the whole Argo CD has one of, and afterwards have them as they were."""
    before = [get(each["kind"], each["metadata"]["name"], "argocd") for each in objects]
    trust(remote, objects, MANAGER)
    yield
    for each, old in zip(objects, before, strict=True):
        if old:
            apply([{name: old[name] for name in ("data", "spec") if name in old} | identity(each)], MANAGER)
        else:
            kubectl("-n", "argocd", "delete", each["kind"], each["metadata"]["name"])


def identity(obj: Object) -> Object:
    name = {"name": obj["metadata"]["name"], "namespace": obj["metadata"]["namespace"]}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": name}


def test_a_release_is_announced_when_its_pods_are_ready(delivery: Delivery) -> None:
    revision = delivery.release(deployment=deployment("2"))
    payload = delivery.synced(revision)
    rollout = find("deployment", "sluice")["status"]
    assert payload == {
        "app": APPLICATION,
        "stage": STAGE.name,
        "revision": revision,
        "images": [LOCAL.proxy_image],
        "urls": [],  # it has no Ingress
    }
    assert rollout["availableReplicas"] == rollout["updatedReplicas"] == rollout["replicas"] == 1


def test_github_is_told_as_it_wants_to_be(delivery: Delivery) -> None:
    path, headers, _ = delivery.receiver.posts[0]
    assert path == "/repos/owner/name/dispatches"
    assert headers["Authorization"] == "Bearer not-a-real-one"
    assert headers["Accept"] == "application/vnd.github+json"


def test_drift_is_healed(delivery: Delivery) -> None:
    kubectl("-n", STAGE.namespace, "patch", "configmap", "greeting", "--patch", '{"data": {"text": "drift"}}')
    eventually(lambda: greeting() == "hello", 120)
    kubectl("-n", STAGE.namespace, "delete", "configmap", "greeting")
    eventually(lambda: greeting() == "hello", 120)


def test_replicas_are_the_autoscalers(delivery: Delivery) -> None:
    kubectl("-n", STAGE.namespace, "scale", "deployment", "sluice", "--replicas=2")
    revision = delivery.release(greeting=config_map("hello again"))
    delivery.synced(revision)
    assert greeting() == "hello again"
    assert find("deployment", "sluice")["spec"]["replicas"] == 2


def test_what_is_no_longer_in_git_goes(delivery: Delivery) -> None:
    extra = {**config_map("for now"), "metadata": {"name": "extra"}}
    delivery.synced(delivery.release(extra=extra))
    assert find("configmap", "extra")
    delivery.synced(delivery.release(extra=None))
    assert find("configmap", "extra") is None


def test_other_kinds_and_namespaces_are_refused_and_the_application_says_why(delivery: Delivery) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "stolen"}}
    lax = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": STAGE.namespace, "labels": {"lax": "yes"}}}
    ingress = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "extra"}}
    elsewhere = {**config_map("boo"), "metadata": {"name": "elsewhere", "namespace": "default"}}
    payload = delivery.failed(delivery.release(secret=secret, lax=lax, ingress=ingress, elsewhere=elsewhere))
    for reason in (
        "resource :Secret is not permitted in project sluice",
        "resource :Namespace is not permitted in project sluice",
        "resource networking.k8s.io:Ingress is not permitted in project sluice",
        "namespace default is not permitted",
    ):
        assert reason in payload["reason"]
        assert delivery.shows(reason)
    assert find("secret", "stolen") is None
    assert get("configmap", "elsewhere", "default") is None
    labels = get("namespace", STAGE.namespace, "")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert "lax" not in labels
    gone = dict.fromkeys(("secret", "lax", "ingress", "elsewhere"))
    delivery.synced(delivery.release(**gone, greeting=config_map("hello")))


@pytest.mark.parametrize("forger", [None, "another key"])
def test_a_commit_that_ci_has_not_signed_is_refused_and_the_ui_says_why(
    delivery: Delivery, forger: str | None, tmp_path: Path
) -> None:
    before = greeting()
    forged = delivery.push(create(tmp_path / "keys") if forger else None, {"greeting": config_map("forged")})
    reason = eventually(delivery.errors, 120)
    assert re.search("is not signed" if forger is None else "signature|signed", reason), reason
    assert greeting() == before
    assert "sluice-synced" not in [event for event, _ in delivery.notices(forged)]
    delivery.synced(delivery.release(greeting=config_map(f"after {forger}")))
    assert delivery.errors() == ""


def test_a_commit_for_another_stage_is_refused_and_the_ui_says_why(delivery: Delivery) -> None:
    before = greeting()
    files_of_another = {"prod/greeting.yaml": json.dumps(config_map("of another stage"))}
    own = dict.fromkeys(delivery.repository.paths())
    last = delivery.repository.tip()
    delivery.repository.commit({**own, **files_of_another}, local_keys())
    refresh(APPLICATION)
    assert "app path does not exist" in eventually(delivery.errors, 120)
    assert greeting() == before
    delivery.repository.restore(last)
    delivery.synced(delivery.release(greeting=config_map("after another stage's")))


def test_an_older_commit_that_ci_did_sign_is_refused_and_the_ui_says_why(delivery: Delivery) -> None:
    older = delivery.release(release=order_of(7), greeting=config_map("older"))
    delivery.synced(older)
    newer = delivery.release(release=order_of(8), greeting=config_map("newer"))
    delivery.synced(newer)
    delivery.repository.move(older)
    refresh(APPLICATION)
    reason = eventually(delivery.errors, 120)
    assert "the branch was moved back: this is its release number 7, and number 8 runs" in reason
    assert greeting() == "newer"
    delivery.repository.move(newer)
    refresh(APPLICATION)
    eventually(lambda: delivery.errors() == "", 120)
    delivery.synced(delivery.release(release=order_of(9), greeting=config_map("hello")))


def test_what_the_api_server_refuses_is_told(delivery: Delivery) -> None:
    payload = delivery.failed(delivery.release(deployment=deployment("3", label="other")))
    assert "`selector` does not match template `labels`" in payload["reason"]
    delivery.synced(delivery.release(deployment=deployment("4")))


# One by one: Argo CD tells the first refusal only.
FOREIGN: dict[str, tuple[dict[str, Object], str]] = {
    "an image from elsewhere": (
        {"deployment": deployment("3", image=f"docker.io/library/busybox@sha256:{'0' * 64}")},
        f"is no image of {LOCAL.registry} by its digest",
    ),
    "a load balancer of its own": (
        {"extra": {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "extra"}, "spec": LOAD_BALANCER}},
        "a Service must be of type ClusterIP",
    ),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_no_stage_renders_is_refused_and_the_application_says_why(delivery: Delivery, what: str) -> None:
    objects, reason = FOREIGN[what]
    payload = delivery.failed(delivery.release(**objects))
    assert reason in payload["reason"]
    assert delivery.shows(reason)
    assert find("service", "extra") is None
    delivery.synced(delivery.release(deployment=deployment("4"), extra=None, greeting=config_map(f"after {what}")))


def test_a_release_that_never_gets_ready_is_told_and_the_revert_too(delivery: Delivery) -> None:
    bad = delivery.release(deployment=deployment("5", image=MISSING, deadline=8))
    payload = delivery.failed(bad)
    assert "Degraded" in payload["reason"]
    assert find("deployment", "sluice")["status"]["availableReplicas"] >= 1
    good = delivery.release(deployment=deployment("4"))
    delivery.synced(good)


def test_ci_can_look_and_sync_and_nothing_else(delivery: Delivery, tmp_path: Path) -> None:
    address = get("service", "argocd-server", "argocd")["spec"]["clusterIP"]
    server = ["--server", address, "--insecure", "--grpc-web", "--config", str(tmp_path / "config")]
    login = ["--username", "admin", "--password", delivery.password, *server[2:]]
    run("argocd", "login", address, *login)
    token = run("argocd", "account", "generate-token", "--account", "ci", "--expires-in", "10m", *server)

    def as_ci(*command: str) -> subprocess.CompletedProcess[str]:
        whole = ["argocd", *command, *server, "--auth-token", token]
        return subprocess.run(whole, env=environ(), capture_output=True, text=True)

    for command in (f"app get {APPLICATION}", f"app sync {APPLICATION} --timeout 60"):
        done = as_ci(*command.split())
        assert done.returncode == 0, done.stderr
    for command in (
        f"app delete {APPLICATION} --yes",
        f"app set {APPLICATION} --revision main",
        f"app delete-resource {APPLICATION} --kind Deployment --resource-name sluice",
        "proj delete sluice",
        "account generate-token --account admin",
        "repo add http://localhost/other.git",
    ):
        done = as_ci(*command.split())
        assert done.returncode != 0, command
        assert "permission denied" in done.stderr.lower(), done.stderr


def test_each_revision_was_told_of_once(delivery: Delivery) -> None:
    for number in range(5):  # each change of an Application has the notifications' controller look at it again
        kubectl("annotate", "--overwrite", "-n", "argocd", "application", APPLICATION, f"look={number}")
    last = delivery.release(greeting=config_map("the last"))
    delivery.synced(last)
    told = Counter((body["event_type"], body["client_payload"]["revision"]) for _, _, body in delivery.receiver.posts)
    assert set(told.values()) == {1}


def test_deleting_the_application_waits_for_what_others_still_hold(delivery: Delivery) -> None:
    hold = '{"metadata": {"finalizers": ["example.com/load-balancer"]}}'
    kubectl("-n", STAGE.namespace, "patch", "configmap", "greeting", "--patch", hold)
    kubectl("-n", "argocd", "delete", "application", APPLICATION, "--wait=false")
    eventually(lambda: find("deployment", "sluice") is None, 120)
    assert find("configmap", "greeting")["metadata"]["deletionTimestamp"]
    assert get("application", APPLICATION, "argocd")
    kubectl("-n", STAGE.namespace, "patch", "configmap", "greeting", "--patch", '{"metadata": {"finalizers": null}}')
    eventually(lambda: get("application", APPLICATION, "argocd") is None, 120)
