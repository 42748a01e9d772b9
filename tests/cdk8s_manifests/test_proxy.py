"""A proxy's pod: the front that callers reach, and HAProxy beside it."""

from dataclasses import replace

import pytest

from config import BALANCER_DRAIN, BALANCER_REGISTER, DEV, LOCAL, STAGES, Stage
from service.settings import Role, Settings
from tests.support.rendered import container, find, pod

each_stage = pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)


def settings(stage: Stage) -> Settings:
    """Return the settings that the front will read."""
    return Settings.from_environ(find(stage, "ConfigMap", "front")["data"])


@each_stage
def test_the_front_gets_the_stages_numbers(stage: Stage) -> None:
    got, data = settings(stage), find(stage, "ConfigMap", "front")["data"]
    assert (got.role, got.model, got.max_tokens) == (Role.FRONT, stage.model.name, stage.max_tokens)
    assert (got.max_in_flight, got.max_body_bytes) == (stage.max_in_flight, stage.max_body_mib * 2**20)
    assert (data["RECEIVE_MIB"], data["SEND_MIB"]) == (str(stage.receive_mib), str(stage.send_mib))
    assert (data["HEAD_TIMEOUT"], data["BODY_TIMEOUT"]) == (str(stage.head_timeout), str(stage.body_timeout))
    assert (data["WRITE_TIMEOUT"], data["MAX_CONNECTIONS"]) == (str(stage.write_timeout), str(stage.max_connections))
    assert data["QUOTA_SHARES"] == str(stage.proxy_replicas)


@each_stage
def test_the_front_asks_the_haproxy_beside_it_and_outlives_its_deadlines(stage: Stage) -> None:
    got = settings(stage)
    assert got.upstream == "http://127.0.0.1:8080"
    inside = 2 * stage.queue_timeout + stage.generation_timeout
    assert inside < got.answer_timeout <= stage.longest_answer < stage.idle_timeout
    assert got.keepalive > stage.idle_timeout


@each_stage
def test_haproxy_is_a_sidecar_that_is_up_before_the_front_and_ends_after_it(stage: Stage) -> None:
    spec = pod(stage, "proxy")
    assert [each["name"] for each in spec["initContainers"]] == ["haproxy"]
    assert [each["name"] for each in spec["containers"]] == ["front"]
    assert container(stage, "proxy", "haproxy")["restartPolicy"] == "Always"
    assert container(stage, "proxy", "haproxy")["startupProbe"]["httpGet"] == {"path": "/healthz", "port": 8404}


@each_stage
def test_front_and_haproxy_may_both_finish_what_they_have(stage: Stage) -> None:
    got = settings(stage)
    upload = stage.head_timeout + stage.body_timeout
    longest = got.prestop + upload + got.answer_timeout + stage.write_timeout
    assert longest <= stage.front_drain
    # Others' requests that HAProxy still has were there before its front drained: only its own wait comes on top.
    assert stage.front_drain + stage.prestop < pod(stage, "proxy")["terminationGracePeriodSeconds"]


def test_a_front_accepts_requests_for_longer_than_the_load_balancer_sends_them() -> None:
    for stage in STAGES.values():
        assert settings(stage).prestop == stage.front_prestop
    assert settings(DEV).prestop > BALANCER_DRAIN


@each_stage
def test_front_and_haproxy_are_both_asked_whether_they_are_ready(stage: Stage) -> None:
    probes = {name: container(stage, "proxy", name)["readinessProbe"]["httpGet"] for name in ("front", "haproxy")}
    assert probes == {"front": {"path": "/readyz", "port": 9090}, "haproxy": {"path": "/readyz", "port": 8404}}


@each_stage
def test_a_release_that_takes_long_to_start_is_not_failed_for_its_proxies(stage: Stage) -> None:
    deadlines = [find(stage, "Deployment", name)["spec"]["progressDeadlineSeconds"] for name in ("sluice", "proxy")]
    # A front waits for the first pod of its release, and then for its load balancer.
    assert deadlines[0] + (0 if stage is LOCAL else BALANCER_REGISTER) < deadlines[1]


def test_api_keys_are_a_file_from_a_secret_and_only_the_front_has_it() -> None:
    stage = replace(LOCAL, api_keys="api-keys")
    mount = container(stage, "proxy", "front")["volumeMounts"]
    assert mount == [{"name": "keys", "mountPath": "/etc/sluice", "readOnly": True}]
    assert {"name": "keys", "secret": {"secretName": "api-keys"}} in pod(stage, "proxy")["volumes"]
    assert settings(stage).api_keys_file == "/etc/sluice/keys.toml"
    assert settings(LOCAL).api_keys_file == ""
    others = [container(stage, "proxy", "haproxy"), container(stage, "sluice", "gateway")]
    assert not [each for other in others for each in other.get("volumeMounts", []) if each["name"] == "keys"]
    assert "keys" not in [volume["name"] for volume in pod(stage, "sluice")["volumes"]]
