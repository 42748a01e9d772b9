"""What an auditor asks of the templates, by the three usual tools and by counting what has to be justified."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import Stack, Validations
from aws_cdk import aws_s3 as s3
from cdk_nag import AwsSolutionsChecks

from config import DEV, PROD, Stage
from stacks.access import SESSION_ACTIONS
from stacks.cluster import SDK_FUNCTION, tag_rights
from stacks.github_oidc import DRIFT_ACTIONS
from tests.support.checkov import checkov, failed
from tests.support.synth import NAMED, Json, empty_app, synthesise, text

EACH = pytest.mark.parametrize("stage", [DEV, PROD], ids=lambda stage: stage.name)

# Every statement that is about more than resources it names, by stack and actions.
WILDCARDS = {
    ("github", "ecr:GetAuthorizationToken"): "logs in to the account's registry as such, and takes no other resource",
    ("network", ", ".join(SESSION_ACTIONS)): "registers an instance and carries its sessions; none takes a resource",
    **{
        (
            "cluster",
            ", ".join(sorted(each.actions)),
        ): "creates what has no name before, and only with the cluster's own tag"
        for each in tag_rights()
    },
    ("cluster", "logs:CreateLogStream, logs:DescribeLogStreams, logs:PutLogEvents"): "the streams of one log group",
    ("github", ", ".join(DRIFT_ACTIONS)): "our stacks, whose names end in an id that AWS gives",
    ("cluster", "kms:*"): "in a key's own policy, * is this key; it leaves the rights on it to the account's IAM",
    ("cluster", "lambda:InvokeFunction"): "the versions of one function, the kubectl provider's handler",
    ("edge", "route53:ListHostedZones"): "takes no other resource",
}

CFN_LINT_SKIPS = {
    "W3005": "the CDK also states the dependencies that a GetAtt implies; nothing follows from it",
}

CHECKOV_SKIPS = {
    "CKV_AWS_26": "Alarms can't publish to a topic with KMS's own key, and one of ours costs more than it guards: "
    "messages have names of alarms, and numbers.",
    "CKV_AWS_111": "What Session Manager's agent does takes no resource; WILDCARDS lists each such statement.",
    "CKV_AWS_115": "Only CloudFormation calls the kubectl provider, once a change; what it reserves, others lack.",
    "CKV_AWS_116": "CloudFormation waits for the kubectl provider's answer and shows its errors: nothing is to queue.",
    "CKV_AWS_117": "What protects a cluster calls EKS's API, which isn't in the VPC; the kubectl provider is in it.",
    "CKV_AWS_158": "CloudWatch encrypts logs with a key of its own. One of ours would have to outlive each log that is "
    "kept, and the logs hold neither prompts nor answers nor Secrets.",
    "CKV_AWS_149": "Secrets Manager encrypts with AWS's own key. One of ours would be for the same readers.",
    "CKV_AWS_173": "The kubectl provider's variables are a function's ARN and a constant, and are encrypted at rest.",
}


def statements(value: Any) -> Iterator[Json]:
    """Yield every policy statement in a template, wherever it stands, that says what it is about."""
    if isinstance(value, dict):
        if {"Effect", "Action", "Resource"} <= set(value):
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from statements(each)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@EACH
def test_every_statement_about_more_than_it_names_is_listed_with_its_reason(stage: Stage) -> None:
    found = Counter(
        (stack, ", ".join(as_list(statement["Action"])))
        for stack, _, resource in synthesise(stage, **NAMED).everything()
        for statement in statements(resource)
        if any("*" in text(each) for each in as_list(statement["Resource"]))
    )
    assert found == Counter(WILDCARDS.keys())


@EACH
def test_the_only_lambdas_are_the_kubectl_providers_two_and_the_one_that_protects_a_cluster(stage: Stage) -> None:
    everything = synthesise(stage, **NAMED).everything()
    names = [name for _, name, each in everything if each["Type"] == "AWS::Lambda::Function"]
    ours = [name for name in names if name.startswith("ClusterKubectlProvider")]
    others = [name for name in names if name not in ours]
    assert (len(ours), [name[:35] for name in others]) == (2, [SDK_FUNCTION] * stage.deletion_protection)


@EACH
def test_the_only_custom_resources_are_theirs(stage: Stage) -> None:
    custom = [each for _, _, each in synthesise(stage, **NAMED).everything() if "Custom" in each["Type"]]
    protection = {"Custom::AWS": 1} if stage.deletion_protection else {}
    assert Counter(each["Type"] for each in custom) == protection | {
        "Custom::AWSCDK-EKS-KubernetesResource": 26,
        "Custom::AWSCDK-EKS-HelmChart": 1,
        "Custom::AWSCDK-EKS-KubernetesObjectValue": 2,
    }
    for each in custom:
        function = SDK_FUNCTION if each["Type"] == "Custom::AWS" else "ClusterKubectlProviderframeworkonEvent"
        assert function in str(each["Properties"]["ServiceToken"])


@EACH
def test_logs_are_kept_as_long_as_the_stage_says_and_no_service_makes_a_group_of_its_own(stage: Stage) -> None:
    groups = [each for _, _, each in synthesise(stage, **NAMED).everything() if each["Type"] == "AWS::Logs::LogGroup"]
    assert len(groups) == 5 + stage.deletion_protection  # the VPC's traffic, control plane, pods, two or three Lambdas
    for each in groups:
        assert each["Properties"]["RetentionInDays"] == (365 if stage.keep_data else 30)
        assert each["DeletionPolicy"] == ("RetainExceptOnCreate" if stage.keep_data else "Delete")


@EACH
def test_nothing_but_logs_images_and_secrets_outlives_cdk_destroy(stage: Stage) -> None:
    everything = synthesise(stage, **NAMED).everything()
    kept = {each["Type"] for _, _, each in everything if "Retain" in each.get("DeletionPolicy", "")}
    data = {"AWS::Logs::LogGroup", "AWS::SecretsManager::Secret"} if stage.keep_data else set()
    assert kept == {"AWS::ECR::Repository"} | data


@EACH
def test_cdk_nag_finds_nothing_that_is_not_accepted_with_a_reason(stage: Stage) -> None:
    report = json.loads((synthesise(stage, **NAMED).folder / "validation-report.json").read_text())
    (nag,) = [each for each in report["pluginReports"] if each["pluginName"] == "AwsSolutions"]
    assert (nag["conclusion"], nag["violations"]) == ("success", [])
    assert {each["ruleName"].split("[")[0] for each in nag["suppressedViolations"]} == {
        "AwsSolutions-IAM4",
        "AwsSolutions-IAM5",
        "AwsSolutions-L1",
        "AwsSolutions-SMG4",
    }
    assert all(len(each["reason"]) > 80 for each in nag["suppressedViolations"])


def test_cdk_nag_would_stop_a_synth_that_it_finds_fault_with() -> None:
    app = empty_app()
    s3.Bucket(Stack(app, "stack"), "Bucket")
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    with pytest.raises(RuntimeError, match="AwsSolutions-S1'"):
        app.synth()


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the templates of both stages, and nothing else."""
    folder = tmp_path_factory.mktemp("templates")
    for stage in (DEV, PROD):
        for path in synthesise(stage, **NAMED).folder.glob("*.template.json"):
            shutil.copy(path, folder)
    return folder


@pytest.mark.usefixtures("programs")
def test_cfn_lint_has_no_errors_and_no_warnings(templates: Path) -> None:
    options = ["--format", "json", "--ignore-checks", *CFN_LINT_SKIPS]
    names = [str(path) for path in sorted(templates.iterdir())]
    done = run([str(Path(sys.executable).with_name("cfn-lint")), *options, "--", *names])
    assert json.loads(done.stdout) == []
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("network")
def test_checkov_fails_nothing_that_is_not_skipped_with_a_reason(templates: Path) -> None:
    assert failed(checkov("cloudformation", templates)) == set(CHECKOV_SKIPS)


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, text=True, capture_output=True, timeout=300)
