import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cdk8s_manifests.__main__ import write
from cdk8s_manifests.main import render
from config import DEV, HAPROXY_IMAGE, LOCAL, PROD, RELEASE_ANNOTATION, STAGES, Autoscaling, ConfigError, Stage
from testbed import ROOT
from tests.support.checkov import checkov, failed
from tests.support.rendered import CONTEXT, IMAGE, WEIGHTS, Object, files, find, objects
from tests.support.several_models import LOCAL_TWO, TWO_NODES

# A stage with everything that can be switched on.
FULL = replace(PROD, monitoring=True)
ALL = [*STAGES.values(), FULL, replace(LOCAL, autoscaling=Autoscaling.REQUESTS), LOCAL_TWO, TWO_NODES]
each_stage = pytest.mark.parametrize("stage", ALL, ids=lambda stage: stage.name)


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, "-m", "cdk8s_manifests", *arguments]
    return subprocess.run(run, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True)


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that a failed command has written; Node's own warnings aside."""
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if "!!" not in line]
    assert len(lines) == 1, done.stderr
    return lines[0]


@each_stage
def test_each_file_holds_one_object_and_is_named_after_it(stage: Stage) -> None:
    for name, text in files(stage).items():
        [obj] = yaml.safe_load_all(text)
        assert name == f"{obj['kind'].lower()}-{obj['metadata']['name']}.yaml"


@each_stage
def test_all_is_in_the_stages_namespace(stage: Stage) -> None:
    for obj in objects(replace(stage, namespace="elsewhere")):
        assert obj["metadata"]["namespace"] == "elsewhere"


@each_stage
def test_no_secret_is_rendered_and_nothing_that_gives_rights(stage: Stage) -> None:
    kinds = {obj["kind"] for obj in objects(stage)}
    assert not kinds & {"Secret", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "Namespace"}


@each_stage
def test_argo_cds_project_allows_every_kind(stage: Stage) -> None:
    project = yaml.safe_load((ROOT / "argocd/project.yaml").read_text())["spec"]
    allowed = {
        (entry["group"], entry["kind"])
        for entry in project["clusterResourceWhitelist"] + project["namespaceResourceWhitelist"]
    }
    for obj in objects(stage):
        assert (obj["apiVersion"].rpartition("/")[0], obj["kind"]) in allowed


@pytest.mark.usefixtures("programs")
def test_the_same_input_gives_the_same_bytes_in_another_process_too(tmp_path: Path) -> None:
    arguments = ["--stage", "local", "--image", IMAGE, "--weights", WEIGHTS, "--out", str(tmp_path)]
    assert command(*arguments, PYTHONHASHSEED="1").returncode == 0
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == files(LOCAL, None)
    assert render(LOCAL, image=IMAGE, weights={LOCAL.model.name: WEIGHTS}, context=None) == files(LOCAL, None)


@pytest.mark.parametrize("stage", [DEV, PROD], ids=lambda stage: stage.name)
def test_on_aws_haproxy_comes_from_the_accounts_own_registry_with_the_digest_of_the_original(stage: Stage) -> None:
    [haproxy] = find(stage, "Deployment", "proxy")["spec"]["template"]["spec"]["initContainers"]
    digest = HAPROXY_IMAGE.partition("@")[2]
    assert haproxy["image"] == f"{CONTEXT.registry}/sluice/haproxy@{digest}"
    assert "docker.io" not in "".join(files(stage).values())


def test_what_is_no_longer_rendered_goes_and_other_files_stay(tmp_path: Path) -> None:
    for name in ("old.yaml", "service-sluice.yaml", "README.md"):
        (tmp_path / name).write_text("old")
    write({"service-sluice.yaml": "new"}, tmp_path)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "README.md": "old",
        "service-sluice.yaml": "new",
    }


@pytest.mark.parametrize(
    "digest", ["latest", "", "sha256:", "sha256:" + "1" * 63, "sha256:" + "G" * 64, "v1@sha256:" + "1" * 64]
)
def test_what_is_not_a_digest_is_refused(digest: str) -> None:
    for image, weights in ((digest, WEIGHTS), (IMAGE, digest)):
        with pytest.raises(ConfigError, match=re.escape(f"{digest!r} is not a digest")):
            render(LOCAL, image=image, weights={LOCAL.model.name: weights}, context=None)


@pytest.mark.usefixtures("programs")
def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    arguments = ["--image", IMAGE, "--weights", "latest", "--out", str(tmp_path)]
    assert complaint(command("--stage", "none", *arguments)) == (
        "sluice: --stage: stage 'none' doesn't exist: local, dev, prod do"
    )
    assert "sluice/weights: 'latest' is not a digest" in complaint(command("--stage", "local", *arguments))
    assert not list(tmp_path.iterdir())


def test_a_stage_without_a_registry_needs_the_account() -> None:
    with pytest.raises(ConfigError, match="registry is empty"):
        render(PROD, image=IMAGE, weights={PROD.model.name: WEIGHTS}, context=None)


@each_stage
def test_every_image_is_named_by_its_digest_outside_this_machine(stage: Stage) -> None:
    for deployment in (obj for obj in objects(stage) if obj["kind"] == "Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        images = [each["image"] for each in spec.get("initContainers", []) + spec["containers"]]
        images += [volume["image"]["reference"] for volume in spec["volumes"] if "image" in volume]
        for image in images:
            assert re.search("@sha256:[0-9a-f]{64}$", image) or image.startswith("localhost:5001/haproxy:")


def test_an_owners_images_come_from_their_own_registry() -> None:
    template = find(PROD, "Deployment", "sluice")["spec"]["template"]["spec"]
    registry = f"{CONTEXT.account}.dkr.ecr.{CONTEXT.region}.amazonaws.com"
    assert template["containers"][0]["image"] == f"{registry}/sluice/gateway@{IMAGE}"
    assert template["volumes"][0]["image"]["reference"] == f"{registry}/sluice/weights@{WEIGHTS}"


def restricted(spec: Object) -> None:
    """Assert what Pod Security `restricted` asks for, and more: a root that can't be written, no token, one user."""
    assert spec["automountServiceAccountToken"] is False
    security = spec["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    for each in spec.get("initContainers", []) + spec["containers"]:
        own = each["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
    for volume in spec["volumes"]:
        assert set(volume) - {"name"} <= {"configMap", "emptyDir", "image", "secret"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)


@each_stage
def test_every_pod_may_do_as_little_as_possible(stage: Stage) -> None:
    for obj in objects(stage):
        if obj["kind"] == "Deployment":
            restricted(obj["spec"]["template"]["spec"])
        if obj["kind"] == "ServiceAccount":
            assert obj["automountServiceAccountToken"] is False


@each_stage
def test_every_container_has_limits_and_its_memory_reserved(stage: Stage) -> None:
    for obj in objects(stage):
        if obj["kind"] != "Deployment":
            continue
        spec = obj["spec"]["template"]["spec"]
        for each in spec.get("initContainers", []) + spec["containers"]:
            limits, requests = each["resources"]["limits"], each["resources"]["requests"]
            assert set(limits) == set(requests) == {"cpu", "memory"}
            assert limits["memory"] == requests["memory"]


@each_stage
def test_every_selector_finds_the_pods_it_is_meant_for(stage: Stage) -> None:
    labels = {
        obj["metadata"]["name"]: obj["spec"]["template"]["metadata"]["labels"]
        for obj in objects(stage)
        if obj["kind"] == "Deployment"
    }
    selectors = {
        ("Service", "sluice"): "proxy",
        ("Service", "pods"): "sluice",
        ("Service", "proxies"): "proxy",
        ("PodDisruptionBudget", "sluice"): "sluice",
        ("PodDisruptionBudget", "proxy"): "proxy",
        ("Deployment", "sluice"): "sluice",
        ("Deployment", "proxy"): "proxy",
    }
    for (kind, name), deployment in selectors.items():
        selector = find(stage, kind, name)["spec"]["selector"]
        wanted = selector.get("matchLabels", selector)
        matched = [each for each, its in labels.items() if wanted.items() <= its.items()]
        assert matched == [deployment], (kind, name)


@each_stage
def test_a_drain_takes_one_pod_after_the_other(stage: Stage) -> None:
    for name in ("sluice", "proxy"):
        assert find(stage, "PodDisruptionBudget", name)["spec"]["maxUnavailable"] == 1
        strategy = find(stage, "Deployment", name)["spec"]["strategy"]["rollingUpdate"]
        assert strategy == {"maxUnavailable": 0, "maxSurge": "25%"}


def rolled(name: str, before: Stage, after: Stage) -> bool:
    templates = [find(stage, "Deployment", name)["spec"]["template"] for stage in (before, after)]
    return bool(templates[0] != templates[1])


def test_a_change_of_the_configuration_replaces_the_pods_that_read_it_and_no_others() -> None:
    assert rolled("sluice", LOCAL, replace(LOCAL, cpus=2))
    assert not rolled("proxy", LOCAL, replace(LOCAL, cpus=2))
    for changed in (replace(LOCAL, client_timeout=96), replace(LOCAL, write_timeout=11)):
        assert rolled("proxy", LOCAL, changed)
        assert not rolled("sluice", LOCAL, changed)
    for component in ("sluice", "proxy"):
        assert rolled(component, LOCAL, replace(LOCAL, max_tokens=255))


def test_a_gateway_knows_its_release_which_is_of_its_images_and_settings() -> None:
    for component, container in (("sluice", "gateway"), ("proxy", "front")):
        template = find(LOCAL, "Deployment", component)["spec"]["template"]
        [gateway] = [each for each in template["spec"]["containers"] if each["name"] == container]
        field = {"fieldPath": f"metadata.annotations['{RELEASE_ANNOTATION}']"}
        assert gateway["env"] == [{"name": "RELEASE", "valueFrom": {"fieldRef": field}}]


def release(component: str, stage: Stage = LOCAL, image: str = IMAGE, weights: str = WEIGHTS) -> str:
    rendered = render(stage, image=image, weights={stage.model.name: weights}, context=CONTEXT)
    template = yaml.safe_load(rendered[f"deployment-{component}.yaml"])["spec"]["template"]
    return str(template["metadata"]["annotations"][RELEASE_ANNOTATION])


def test_another_image_or_other_weights_make_another_release() -> None:
    other = "sha256:" + "3" * 64
    for component in ("sluice", "proxy"):
        assert release(component) == release(component)
        assert release(component, image=other) != release(component)
    assert release("sluice", weights=other) != release("sluice")
    assert release("proxy", weights=other) == release("proxy")


def test_whatever_changes_in_a_pod_makes_another_release() -> None:
    for changed in (replace(LOCAL, kv_type="q8_0"), replace(LOCAL, requested_cpus=0.5)):
        assert release("sluice", changed) != release("sluice")
    assert release("proxy", replace(LOCAL, api_keys="other-keys")) != release("proxy")


def test_what_is_switched_off_is_not_there() -> None:
    kinds = {obj["kind"] for obj in objects(replace(LOCAL, autoscaling=Autoscaling.CPU))}
    assert kinds == {
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    }
    assert {obj["kind"] for obj in objects(FULL)} - kinds == {
        "Ingress",
        "ScaledObject",
        "ServiceMonitor",
    }


CHECKOV_SKIPS: dict[str, str] = {}


@pytest.mark.usefixtures("network")
def test_checkov_fails_nothing_that_is_not_skipped_with_a_reason(tmp_path: Path) -> None:
    write(files(FULL), tmp_path)
    assert failed(checkov("kubernetes", tmp_path)) == set(CHECKOV_SKIPS)
