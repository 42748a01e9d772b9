import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import pytest
from aws_cdk import App

import app
from config import DEV, PROD, ConfigError, Stage
from context import Context
from testbed import ROOT
from tests.support.aws import ACCOUNT, CONTEXT, REGION
from tests.support.synth import NAMED, OWNER, Assembly, cdk_context, synthesise

EACH = pytest.mark.parametrize("stage", [DEV, PROD], ids=lambda stage: stage.name)


@EACH
def test_a_stage_is_its_network_its_cluster_and_argo_cd_one_after_the_other(stage: Stage) -> None:
    stacks = synthesise(stage).artifacts()
    parts = ("network", "monitoring", "cluster", "secrets", "gitops")
    network, monitoring, cluster, secrets, gitops = (f"sluice-{stage.name}-{part}" for part in parts)
    assert set(stacks) == {"sluice-registry", "sluice-github", network, monitoring, cluster, secrets, gitops}
    assert network in stacks[cluster]["dependencies"]
    assert {cluster, secrets} <= set(stacks[gitops]["dependencies"])


@EACH
def test_pods_get_their_roles_before_they_start(stage: Stage) -> None:
    stacks = synthesise(stage, **NAMED).artifacts()
    secrets, edge, gitops = (f"sluice-{stage.name}-{part}" for part in ("secrets", "edge", "gitops"))
    assert {secrets, edge} <= set(stacks[gitops]["dependencies"])
    assert "sluice-domain" in stacks[edge]["dependencies"]


def test_what_stages_share_is_the_same_whichever_is_deployed() -> None:
    for name in ("registry", "github"):
        assert synthesise(DEV).stacks()[name] == synthesise(PROD).stacks()[name]


@EACH
def test_what_prod_needs_is_not_destroyed_by_mistake_whichever_stage_is_at_hand(stage: Stage) -> None:
    stacks = synthesise(stage).artifacts().items()
    unprotected = {name for name, each in stacks if not each["properties"].get("terminationProtection")}
    assert unprotected == {name for name, _ in stacks if name.startswith("sluice-dev-")}


def test_a_stage_without_tls_on_the_internet_is_warned_of() -> None:
    def warned(assembly: Assembly) -> bool:
        return any("over plain HTTP" in path.read_text() for path in assembly.folder.glob("*.json"))

    assert warned(synthesise(DEV))
    assert not warned(synthesise(DEV, **NAMED))
    assert not warned(synthesise(replace(DEV, internal=True)))


@EACH
def test_synth_looks_nothing_up(stage: Stage) -> None:
    assert "missing" not in json.loads((synthesise(stage).folder / "manifest.json").read_text())
    for each in synthesise(stage).artifacts().values():
        assert each["environment"] == f"aws://{ACCOUNT}/{REGION}"


@EACH
def test_every_stack_says_whose_it_is_for_the_bill(stage: Stage) -> None:
    for name, each in synthesise(stage).artifacts().items():
        own = {"stage": stage.name} if name.startswith(f"sluice-{stage.name}-") else {}
        assert each["properties"]["tags"] == {"project": "sluice", **own}


def test_synth_gives_the_same_bytes_twice() -> None:
    first, second = synthesise(DEV).folder, synthesise.__wrapped__(DEV).folder
    names = sorted(path.name for path in first.glob("*.template.json"))
    assert names == sorted(path.name for path in second.glob("*.template.json"))
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({}, "stage is missing: name it with -c stage=dev or another that runs on AWS"),
        ({"stage": "staging"}, "stage 'staging' doesn't exist: local, dev, prod do"),
        ({"stage": "local"}, "stage 'local' isn't for AWS: node is None, name an instance type"),
        ({"stage": "dev", "account": "1234"}, "account='1234' is not the 12 digits of an AWS account id"),
        ({"stage": "dev", "github_owner_id": "octo"}, "github_owner_id='octo' is not its numeric id"),
        ({"stage": "dev", "region": ""}, "region is missing: set it in cdk.json or with -c region=…"),
    ],
)
def test_bad_input_is_answered_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], complaint: str
) -> None:
    monkeypatch.setattr(app, "App", partial(App, context=cdk_context(**changes)))
    with pytest.raises(SystemExit) as ended:
        app.main()
    sentence = str(ended.value.code)
    assert sentence.startswith(f"sluice: {complaint}")
    assert "\n" not in sentence


@pytest.mark.usefixtures("programs")
def test_bad_input_ends_app_py_with_1_and_no_traceback() -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_"))}
    environ["CDK_CONTEXT_JSON"] = json.dumps(cdk_context(stage="staging"))
    command = [sys.executable, "app.py"]
    done = subprocess.run(command, cwd=ROOT, env=environ, text=True, capture_output=True, timeout=120)
    (sentence,) = [line for line in done.stderr.splitlines() if "!!" not in line]  # jsii frames what it thinks of Node
    assert sentence.startswith("sluice: stage 'staging' doesn't exist")
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        (
            {"CDK_DEFAULT_ACCOUNT": "999999999999", "CDK_DEFAULT_REGION": REGION},
            f"account 999.*, but account={ACCOUNT}",
        ),
        ({"CDK_DEFAULT_ACCOUNT": ACCOUNT, "CDK_DEFAULT_REGION": "us-east-1"}, f"us-east-1, but region={REGION}"),
    ],
)
def test_credentials_of_another_account_or_region_are_refused(environ: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        app.check_credentials(OWNER, environ)


def test_credentials_of_the_contexts_account_and_region_do_and_so_do_none() -> None:
    app.check_credentials(OWNER, {"CDK_DEFAULT_ACCOUNT": ACCOUNT, "CDK_DEFAULT_REGION": REGION})
    app.check_credentials(OWNER, {"CDK_DEFAULT_REGION": "us-east-1"})  # what the CDK says without any


def test_cdk_json_shows_what_an_owner_fills_in() -> None:
    names = json.loads((ROOT / "cdk.json").read_text())["context"]
    assert {name for name in names if not name.startswith("@")} == {each.name for each in fields(Context)}


def test_what_the_owner_has_filled_in_changes_no_test() -> None:
    assert {each.name for each in fields(Context)} == set(CONTEXT)


def test_cdk_json_has_the_feature_flags_of_cdk_init(cdk: Path) -> None:
    templates = cdk.resolve().parent.parent / "lib/init-templates"
    recommended = json.loads((templates / ".recommended-feature-flags.json").read_text())
    ours = json.loads((ROOT / "cdk.json").read_text())["context"]
    assert {name: value for name, value in ours.items() if name.startswith("@")} == recommended
