import json
import subprocess
import sys
from dataclasses import fields, replace

import pytest

from cdk8s_manifests.gateway_settings import FIRST_TOKEN, back_settings, ollama_variables
from config import (
    COPIES,
    DEV,
    GATEWAY_BASE_MIB,
    LOCAL,
    MODEL_TAINT,
    OLLAMA_OVERHEAD_MIB,
    PROD,
    STAGES,
    ConfigError,
    Stage,
)
from launcher.ollama_process import HEAP_MIB, ollama_environ
from service.ollama import Ollama
from service.settings import Role, Settings
from testbed.ports import free_port
from tests.support.rendered import container, find, pod
from tests.support.stub import scripted

each_stage = pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)


def settings(stage: Stage, config: str = "sluice") -> Settings:
    """Return the settings that a pod will read, or a front."""
    return Settings.from_environ(find(stage, "ConfigMap", config)["data"])


@each_stage
@pytest.mark.parametrize("config", ["sluice", "front"])
def test_every_variable_is_a_setting_of_the_gateways_and_has_a_value_it_accepts(stage: Stage, config: str) -> None:
    names = set(find(replace(stage, api_keys="keys"), "ConfigMap", config)["data"])
    assert names <= {field.name.upper() for field in fields(Settings)}
    assert settings(stage, config)


def test_a_front_decides_which_requests_are_traced_and_the_pod_follows() -> None:
    traced = replace(DEV, traces_to="collector.monitoring:4318", traced_share=0.2)
    front, back = (find(traced, "ConfigMap", name)["data"] for name in ("front", "sluice"))
    for variables in (front, back):
        assert variables["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector.monitoring.svc.cluster.local:4318"
        assert variables["OTEL_RESOURCE_ATTRIBUTES"] == "deployment.environment.name=dev"
    assert (front["OTEL_TRACES_SAMPLER"], front["OTEL_TRACES_SAMPLER_ARG"]) == ("traceidratio", "0.2")
    assert back["OTEL_TRACES_SAMPLER"] == "parentbased_always_off"


@each_stage
def test_the_gateway_gets_the_stages_numbers(stage: Stage) -> None:
    got = settings(stage)
    assert (got.role, got.model, got.slots, got.threads) == (Role.BACK, stage.model.name, stage.slots, stage.cpus)
    assert (got.context_length, got.max_tokens) == (stage.context_length, stage.max_tokens)
    assert (got.queue_timeout, got.generation_timeout) == (stage.queue_timeout, stage.generation_timeout)
    assert got.prestop == stage.prestop


@each_stage
def test_ollama_gets_the_same_numbers_as_the_gateway(stage: Stage) -> None:
    variables = {each["name"]: each["value"] for each in container(stage, "sluice", "ollama")["env"]}
    assert ollama_environ(settings(stage), {}).items() <= variables.items()
    assert variables["OLLAMA_NUM_PARALLEL"] == str(stage.slots)
    assert variables["OLLAMA_HOST"] == "127.0.0.1:11434"


def test_ollamas_heap_fits_beside_what_llama_server_holds() -> None:
    assert HEAP_MIB + 768 <= OLLAMA_OVERHEAD_MIB


@each_stage
def test_the_prompt_cache_is_in_the_memory_limit(stage: Stage) -> None:
    variables = {each["name"]: each["value"] for each in container(stage, "sluice", "ollama")["env"]}
    assert variables["LLAMA_ARG_CACHE_RAM"] == str(stage.prompt_cache_mib)
    assert replace(stage, prompt_cache_mib=0).ollama_mib == stage.ollama_mib - stage.prompt_cache_mib
    with pytest.raises(ConfigError, match="prompt_cache_mib=-1 must be at least 0"):
        replace(stage, prompt_cache_mib=-1)


@each_stage
def test_threads_are_the_cpu_limit(stage: Stage) -> None:
    limits = container(stage, "sluice", "ollama")["resources"]["limits"]
    assert limits == {"cpu": str(stage.cpus), "memory": f"{stage.ollama_mib}Mi"}
    assert settings(stage).threads == stage.cpus


def test_a_stage_may_reserve_less_than_the_limit() -> None:
    assert container(LOCAL, "sluice", "ollama")["resources"]["requests"]["cpu"] == "100m"
    assert container(PROD, "sluice", "ollama")["resources"]["requests"]["cpu"] == "7"


@each_stage
def test_ollama_is_a_sidecar_that_starts_first_and_ends_last(stage: Stage) -> None:
    assert [each["name"] for each in pod(stage, "sluice")["initContainers"]] == ["ollama"]
    ollama = container(stage, "sluice", "ollama")
    assert ollama["restartPolicy"] == "Always"
    assert ollama["command"] == ["ollama", "serve"]
    assert "ports" not in ollama


@each_stage
def test_the_model_comes_from_an_image_and_cannot_be_written(stage: Stage) -> None:
    ollama = container(stage, "sluice", "ollama")
    [mount] = [mount for mount in ollama["volumeMounts"] if mount["name"] == "weights"]
    assert mount == {"name": "weights", "mountPath": "/models", "readOnly": True}
    assert {"name": "OLLAMA_MODELS", "value": "/models"} in ollama["env"]
    assert {"name": "HOME", "value": "/tmp"} in ollama["env"]
    [volume] = [volume for volume in pod(stage, "sluice")["volumes"] if volume["name"] == "weights"]
    assert volume["image"]["pullPolicy"] == "IfNotPresent"


def first_token(stage: Stage, ollama: str) -> subprocess.CompletedProcess[str]:
    """Run the startup probe as Kubernetes does, with an Ollama at this address."""
    program, *arguments = container(stage, "sluice", "ollama")["startupProbe"]["exec"]["command"]
    assert program == "python"
    environ = back_settings(stage) | ollama_variables(stage) | {"OLLAMA_HOST": ollama.removeprefix("http://")}
    return subprocess.run([sys.executable, *arguments], env=environ, capture_output=True, text=True)


@pytest.mark.usefixtures("programs")
def test_the_startup_probe_ends_well_once_a_token_was_generated() -> None:
    with scripted(api_generate={"response": "a", "eval_count": 1}) as ollama:
        assert first_token(LOCAL, ollama.url).returncode == 0
        [(path, body, *_)] = ollama.requests
    sent = json.loads(body)
    assert path == "/api/generate"
    assert sent["options"].pop("num_predict") == 1
    # What the model is loaded with: with other values the gateway would have it loaded again.
    wanted = Ollama(settings(LOCAL)).payload()
    assert {name: sent[name] for name in wanted} == wanted


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize(
    "answer", [{"response": "", "eval_count": 0}, (500, {"error": "out of memory"}), (404, {"error": "no such model"})]
)
def test_the_startup_probe_fails_without_a_token(answer: object) -> None:
    with scripted(api_generate=answer) as ollama:
        done = first_token(LOCAL, ollama.url)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("programs")
def test_the_startup_probe_fails_while_ollama_is_not_up() -> None:
    done = first_token(LOCAL, f"127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert FIRST_TOKEN.read_text() in container(LOCAL, "sluice", "ollama")["startupProbe"]["exec"]["command"]


@each_stage
def test_the_gateway_is_probed_on_its_private_port(stage: Stage) -> None:
    gateway = container(stage, "sluice", "gateway")
    probes = {name: gateway[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    private = settings(stage).private_port
    assert probes == {
        "startupProbe": {"path": "/healthz", "port": private},
        "readinessProbe": {"path": "/readyz", "port": private},
        "livenessProbe": {"path": "/healthz", "port": private},
    }


@each_stage
def test_no_old_pod_goes_before_the_proxies_must_have_found_the_new_one(stage: Stage) -> None:
    # A drain heeds readiness only. DNS, HAProxy's question to it and its first check take 5 + 1 + 1 seconds at most.
    probe = container(stage, "sluice", "gateway")["readinessProbe"]
    assert probe["successThreshold"] * probe["periodSeconds"] > 7


@each_stage
def test_a_stream_ends_before_its_pod_is_killed(stage: Stage) -> None:
    got = settings(stage)
    longest = got.prestop + got.queue_timeout + got.generation_timeout
    assert longest < pod(stage, "sluice")["terminationGracePeriodSeconds"]


@each_stage
def test_a_pod_that_does_not_start_in_time_fails_its_release(stage: Stage) -> None:
    probe = container(stage, "sluice", "ollama")["startupProbe"]
    assert probe["timeoutSeconds"] == probe["periodSeconds"] * probe["failureThreshold"] == stage.start_timeout
    assert find(stage, "Deployment", "sluice")["spec"]["progressDeadlineSeconds"] == stage.start_timeout


@each_stage
def test_a_pod_has_room_for_what_all_proxies_may_send_at_once(stage: Stage) -> None:
    assert settings(stage).slots + settings(stage).max_queue >= stage.slots * (stage.proxy_replicas + 1)


@each_stage
def test_the_autoscaler_owns_the_number_of_pods(stage: Stage) -> None:
    assert "replicas" not in find(stage, "Deployment", "sluice")["spec"]


@pytest.mark.parametrize("stage", [DEV, PROD], ids=lambda stage: stage.name)
def test_on_aws_only_pods_that_generate_go_to_the_nodes_their_numbers_were_made_for(stage: Stage) -> None:
    generates = pod(stage, "sluice")
    assert generates["nodeSelector"] == {"karpenter.sh/nodepool": "sluice"}
    assert generates["tolerations"] == [{"key": MODEL_TAINT, "operator": "Exists", "effect": "NoSchedule"}]
    assert not {"nodeSelector", "tolerations"} & set(pod(stage, "proxy"))
    assert not {"nodeSelector", "tolerations"} & set(pod(LOCAL, "sluice"))


@each_stage
def test_releases_are_spread_over_zones_and_nodes(stage: Stage) -> None:
    for deployment in ("sluice", "proxy"):
        keys = [each["topologyKey"] for each in pod(stage, deployment)["topologySpreadConstraints"]]
        assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]


def test_the_addresses_of_pods_are_known_before_they_are_ready() -> None:
    spec = find(LOCAL, "Service", "pods")["spec"]
    assert spec["clusterIP"] == "None"
    assert spec["publishNotReadyAddresses"] is True


@each_stage
def test_a_pod_has_memory_for_all_that_it_may_hold_at_its_largest(stage: Stage) -> None:
    got = settings(stage)
    most = (got.slots + got.max_queue) * got.max_body_bytes
    limit = container(stage, "sluice", "gateway")["resources"]["limits"]["memory"]
    assert limit == f"{stage.back_mib}Mi"
    assert GATEWAY_BASE_MIB * 2**20 + COPIES * most <= stage.back_mib * 2**20
    assert got.max_body_bytes == stage.payload_mib * 2**20
