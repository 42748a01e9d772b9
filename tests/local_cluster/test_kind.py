"""kind's scripts, as far as they can be checked without kind."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from config import HAPROXY_IMAGE
from local_cluster.kubectl import ROOT

KIND = ROOT / "local_cluster/kind"
SCRIPTS = [KIND / name for name in ("up", "down", "argocd", "git-server", "bin/argocd")]
UP = (KIND / "up").read_text()


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    shellcheck = str(Path(sys.executable).with_name("shellcheck"))
    command = [shellcheck, "--external-sources", "--exclude", "SC1091", str(script)]
    done = subprocess.run(command, cwd=KIND, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert script.stat().st_mode & 0o111


def test_haproxy_is_the_one_of_the_stages() -> None:
    assert f"\nhaproxy_image={HAPROXY_IMAGE}\n" in UP


def test_the_routes_are_those_of_the_cluster() -> None:
    network = yaml.safe_load((KIND / "cluster.yaml").read_text())["networking"]
    assert f"for subnet in {network['serviceSubnet']} {network['podSubnet']};" in UP


def test_everything_is_pinned() -> None:
    [node] = yaml.safe_load((KIND / "cluster.yaml").read_text())["nodes"]
    assert re.search(r"@sha256:[0-9a-f]{64}$", node["image"])
    images = re.findall(r"^\w+_image=(\S+)$", UP, re.MULTILINE)
    assert len(images) == 2
    assert all(re.search(r"@sha256:[0-9a-f]{64}$", image) for image in images)
    for name in ("argo-cd", "metrics-server"):
        kustomization = yaml.safe_load((KIND / name / "kustomization.yaml").read_text())
        assert all(re.search(r"\b[0-9a-f]{40}\b", resource) for resource in kustomization["resources"])
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", image["digest"]) for image in kustomization["images"])
