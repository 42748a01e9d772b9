import json
import re
from typing import Any

import pytest

from config import DAEMON_CPUS, DAEMON_MIB, DEV, PROD, Stage
from cost.estimate import ALARM_METRICS, COMPOSITE_ALARMS, CUSTOM_METRICS
from service.request_log import RequestLog
from stacks.monitoring import OBJECTIVES
from stacks.pod_logs import fluent_bit
from tests.support.aws import REGION
from tests.support.synth import Json, synthesise, text

EACH = pytest.mark.parametrize("stage", [DEV, PROD], ids=lambda stage: stage.name)


def resources(stage: Stage, kind: str) -> list[Json]:
    return [each["Properties"] for each in synthesise(stage).resources("monitoring", kind)]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def patterns(stage: Stage) -> dict[str, str]:
    filters = resources(stage, "AWS::Logs::MetricFilter")
    return {each["MetricTransformations"][0]["MetricName"]: each["FilterPattern"] for each in filters}


@EACH
def test_logs_of_all_pods_are_kept_as_long_as_the_stage_says(stage: Stage) -> None:
    (group,) = resources(stage, "AWS::Logs::LogGroup")
    assert group["LogGroupName"] == f"/sluice/{stage.name}/pods"
    assert group["RetentionInDays"] == (365 if stage.keep_data else 30)


def test_the_log_group_is_there_before_the_cluster() -> None:
    assert "sluice-dev-monitoring" in synthesise(DEV).artifacts()["sluice-dev-cluster"]["dependencies"]


@EACH
def test_what_is_counted_is_what_a_front_logs_of_a_request(stage: Stage) -> None:
    """The fields exist, and a pod that generates isn't counted a second time."""
    assert set(patterns(stage)) == {"Requests", *(each.name for each in OBJECTIVES)}
    known = {*vars(RequestLog(request_id="1", method="POST", path="/generate")), "message"}
    for pattern in patterns(stage).values():
        assert set(re.findall(r"\$\.(\w+)", pattern)) <= known
        assert '$.message = "request"' in pattern
        assert '$.path != "/engine/*"' in pattern


@EACH
def test_failures_and_refusals_each_alarm_when_their_budget_burns_in_two_windows(stage: Stage) -> None:
    composites = resources(stage, "AWS::CloudWatch::CompositeAlarm")
    assert [each["AlarmName"] for each in composites] == [f"sluice-{stage.name}-failed", f"sluice-{stage.name}-refused"]
    alarms = synthesise(stage).stacks()["monitoring"]["Resources"]
    for composite, objective in zip(composites, OBJECTIVES, strict=True):
        windows = [alarms[name]["Properties"] for name in re.findall(r"<(\w+)\.Arn>", text(composite["AlarmRule"]))]
        assert " AND " in text(composite["AlarmRule"])
        periods = [
            {metric["MetricStat"]["Period"] for metric in each["Metrics"] if "MetricStat" in metric} for each in windows
        ]
        assert periods == [{3600}, {300}]
        assert [each["Threshold"] for each in windows] == [pytest.approx(14.4 * objective.allowed)] * 2
        for each in windows:
            names = {
                metric["MetricStat"]["Metric"]["MetricName"] for metric in each["Metrics"] if "MetricStat" in metric
            }
            assert names == {"Requests", objective.name}
            (share,) = [metric["Expression"] for metric in each["Metrics"] if "Expression" in metric]
            assert share == "IF(requests >= 20, bad / requests, 0)"


@EACH
def test_pods_without_a_node_and_targets_that_are_not_reached_alarm(stage: Stage) -> None:
    alarms = {each.get("AlarmName"): each for each in resources(stage, "AWS::CloudWatch::Alarm")}
    pending = alarms[f"sluice-{stage.name}-pending"]
    assert (pending["Namespace"], pending["MetricName"]) == ("AWS/EKS", "scheduler_pending_pods_UNSCHEDULABLE")
    assert pending["Dimensions"] == [{"Name": "ClusterName", "Value": f"sluice-{stage.name}"}]
    (query,) = alarms[f"sluice-{stage.name}-unhealthy"]["Metrics"]
    assert query["Expression"].startswith('SELECT MAX(UnHealthyHostCount) FROM SCHEMA("AWS/ApplicationELB"')


@EACH
def test_whoever_is_named_is_told_when_an_alarm_begins_and_when_it_ends(stage: Stage) -> None:
    (topic,) = synthesise(stage).stacks()["monitoring"]["Outputs"].values()
    told = [
        each
        for kind in ("Alarm", "CompositeAlarm")
        for each in resources(stage, f"AWS::CloudWatch::{kind}")
        if "AlarmActions" in each
    ]
    assert len(told) == 4
    assert all(each["AlarmActions"] == each["OKActions"] == [topic["Value"]] for each in told)
    (subscription,) = resources(stage, "AWS::SNS::Subscription")
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "ops@example.com")


@EACH
def test_the_topic_is_published_to_by_this_accounts_alarms_and_budget_only(stage: Stage) -> None:
    (policy,) = resources(stage, "AWS::SNS::TopicPolicy")
    allowed = [each for each in policy["PolicyDocument"]["Statement"] if each["Effect"] == "Allow"]
    services = {name for each in allowed for name in as_list(each["Principal"]["Service"])}
    assert services == {"cloudwatch.amazonaws.com", "budgets.amazonaws.com"}
    assert all(each["Condition"]["StringEquals"] == {"aws:SourceAccount": "123456789012"} for each in allowed)


@EACH
def test_a_stage_has_a_monthly_budget_of_its_own_resources(stage: Stage) -> None:
    (budget,) = resources(stage, "AWS::Budgets::Budget")
    assert budget["Budget"]["BudgetLimit"] == {"Amount": stage.budget_usd, "Unit": "USD"}
    assert budget["Budget"]["CostFilters"] == {"TagKeyValue": [f"user:stage${stage.tags['stage']}"]}
    kinds = {each["Notification"]["NotificationType"] for each in budget["NotificationsWithSubscribers"]}
    assert kinds == {"ACTUAL", "FORECASTED"}


@EACH
def test_the_cost_table_counts_the_alarms_that_are_synthesised(stage: Stage) -> None:
    alarms = resources(stage, "AWS::CloudWatch::Alarm")
    looked_at = sum(sum("MetricStat" in metric for metric in each.get("Metrics", [])) or 1 for each in alarms)
    assert looked_at == ALARM_METRICS
    assert len(resources(stage, "AWS::CloudWatch::CompositeAlarm")) == COMPOSITE_ALARMS
    assert len(resources(stage, "AWS::Logs::MetricFilter")) == CUSTOM_METRICS


def objects(stage: Stage) -> dict[str, Any]:
    return {each["kind"]: each for each in fluent_bit(stage, region=REGION)}


@EACH
def test_fluent_bit_ships_the_logs_of_every_node_with_no_right_in_the_cluster(stage: Stage) -> None:
    found = objects(stage)
    assert set(found) == {"Namespace", "ServiceAccount", "ConfigMap", "DaemonSet"}
    pod = found["DaemonSet"]["spec"]["template"]["spec"]
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert re.search(r"@sha256:[0-9a-f]{64}$", container["image"])
    assert container["resources"]["requests"] == {"cpu": DAEMON_CPUS, "memory": f"{DAEMON_MIB}Mi"}
    context = container["securityContext"]
    assert (context["readOnlyRootFilesystem"], context["capabilities"]) == (True, {"drop": ["ALL"]})
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert variables == {"REGION": REGION, "LOG_GROUP": stage.log_group}


def test_a_line_arrives_as_its_container_wrote_it_in_a_stream_named_after_the_container() -> None:
    text = objects(DEV)["ConfigMap"]["data"]["fluent-bit.conf"]
    settings = dict(line.split(maxsplit=1) for line in text.splitlines() if not line.startswith("["))
    assert settings["log_key"] == "log"
    assert (settings["region"], settings["log_group_name"]) == ("${REGION}", "${LOG_GROUP}")
    pattern = settings["Tag_Regex"].replace("(?<", "(?P<")
    name = f"/var/log/containers/sluice-7c9d-x2_sluice_gateway-{'0a' * 32}.log"
    assert re.search(pattern, name.rpartition("/")[2]).groupdict() == {
        "pod": "sluice-7c9d-x2",
        "namespace": "sluice",
        "container": "gateway",
    }


@EACH
def test_fluent_bits_pods_may_write_to_that_one_group(stage: Stage) -> None:
    identity = synthesise(stage).properties("cluster", "AWS::EKS::PodIdentityAssociation")
    assert (identity["Namespace"], identity["ServiceAccount"]) == ("logging", "fluent-bit")
    role = identity["RoleArn"]["Fn::GetAtt"][0]
    policies = [each["Properties"] for each in synthesise(stage).resources("cluster", "AWS::IAM::Policy")]
    (policy,) = [each for each in policies if {"Ref": role} in each["Roles"]]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert all(action.startswith("logs:") for action in statement["Action"])
    assert text(statement["Resource"]).endswith(f":log-group:{stage.log_group}:*")
    trust = synthesise(stage).stacks()["cluster"]["Resources"][role]["Properties"]["AssumeRolePolicyDocument"]
    assert json.dumps(trust).count("pods.eks.amazonaws.com") == len(trust["Statement"])
