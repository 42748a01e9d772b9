"""Every number of a stage that must agree with another is checked, and the error says which way to move."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import (
    BALANCER_DRAIN,
    BUFFER_BYTES,
    C7G_XLARGE,
    C7I_2XLARGE,
    C7I_XLARGE,
    DEV,
    EXIT_MARGIN,
    GATEWAY_CPUS,
    GEMMA_270M,
    LOCAL,
    M7G_LARGE,
    NODE_DRAIN,
    PROD,
    PROXY_MIB,
    STAGES,
    Autoscaling,
    ConfigError,
    LoadBalancer,
    Node,
    Stage,
    find_stage,
)
from service.settings import Settings
from testbed import ROOT

SECONDS = st.integers(1, 400)
TIMES = (
    "queue_timeout",
    "generation_timeout",
    "proxy_timeout",
    "idle_timeout",
    "client_timeout",
    "prestop",
    "front_prestop",
    "grace_period",
)


def agree(
    queue: int, generation: int, proxy: int, idle: int, client: int, prestop: int, front_prestop: int, grace: int
) -> bool:
    """Say whether an answer, or the drain's last one, can come before the one who waits for it gives up."""
    longest_in_pod = queue + generation
    upload = DEV.head_timeout + DEV.body_timeout
    in_time = longest_in_pod < proxy and queue + proxy < idle < client and upload + queue + proxy < client
    front = front_prestop + upload + queue + proxy + DEV.write_timeout
    drained = front_prestop > BALANCER_DRAIN and front + prestop + EXIT_MARGIN < NODE_DRAIN
    return in_time and prestop + longest_in_pod + EXIT_MARGIN < grace and drained


@given(times=st.tuples(*[SECONDS] * len(TIMES)))
def test_a_stage_exists_only_if_every_deadline_outlives_those_inside_it(times: tuple[int, ...]) -> None:
    changes: dict[str, Any] = dict(zip(TIMES, times, strict=True))
    if agree(*times):
        assert replace(DEV, **changes).idle_timeout == changes["idle_timeout"]
    else:
        with pytest.raises(ConfigError, match=r"must be (less|more) than") as error:
            replace(DEV, **changes)
        assert "lower" in str(error.value) or "raise" in str(error.value)


@given(queue=SECONDS, generation=SECONDS, slack=st.lists(st.integers(1, 60), min_size=4, max_size=4))
def test_any_queue_and_generation_have_deadlines_around_them_that_agree(
    queue: int, generation: int, slack: list[int]
) -> None:
    proxy = queue + generation + slack[0]
    idle = queue + proxy + slack[1]
    stage = replace(
        DEV,
        node=None,  # which bounds how long a pod may drain
        queue_timeout=queue,
        generation_timeout=generation,
        proxy_timeout=proxy,
        idle_timeout=idle,
        client_timeout=idle + DEV.head_timeout + DEV.body_timeout + slack[2],
        grace_period=DEV.prestop + queue + generation + EXIT_MARGIN + slack[3],
    )
    assert stage.client_timeout - stage.queue_timeout > queue + generation


@given(slots=st.integers(1, 64), context_length=st.sampled_from((1024, 2048, 4096, 8192)))
def test_the_memory_limit_holds_weights_and_the_context_of_every_slot(slots: int, context_length: int) -> None:
    try:
        stage = replace(DEV, slots=slots, context_length=context_length, requests_per_replica=1)
    except ConfigError as error:
        assert "MiB" in str(error)
        return
    context_bytes = slots * context_length * stage.model.kv_kib_per_token * 1024
    assert stage.ollama_mib * 2**20 > stage.model.weights_mib * 2**20 + context_bytes
    assert stage.node is not None
    assert stage.pod_mib < stage.node.memory_gib * 1024


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"slots": 0}, ["slots=0", "at least 1"]),
        ({"max_tokens": 2048}, ["max_tokens = 2048", "context_length=2048", "lower max_tokens, or raise"]),
        ({"proxy_timeout": 150}, ["queue_timeout + generation_timeout = 150", "proxy_timeout=150", "raise proxy"]),
        ({"smoke_at_most": 10}, ["smoke_at_least = 10", "smoke_at_most=10", "lower smoke_at_least, or raise"]),
        ({"grace_period": 170}, ["prestop", "grace_period=170", "raise grace_period"]),
        ({"grace_period": 600}, ["grace_period = 600", "600 s", "node", "lower grace_period"]),
        ({"front_prestop": 120}, ["front_prestop=120", "more than the 120 s", "ALB", "raise front_prestop"]),
        ({"front_prestop": 400}, ["front_prestop + head_timeout", "= 680", "600 s", "lower front_prestop or"]),
        ({"body_timeout": 40}, ["head_timeout + body_timeout", "client_timeout=230", "lower head_timeout or body"]),
        ({"max_body_mib": 33}, ["max_body_mib=33", "receive_mib=64", "lower the first or raise the second"]),
        ({"receive_mib": 256}, ["receive_mib=256", "front_mib=1152", "raise front_mib"]),
        ({"max_in_flight": 300}, ["max_in_flight=300", "payload_mib=2", "front_mib=1152", "lower one of them"]),
        ({"max_in_flight": 4096, "payload_mib": 1, "front_mib": 9999}, ["max_in_flight=4096", "max_connections=4096"]),
        ({"max_in_flight": 900, "front_mib": 9999}, ["max_in_flight=900", "proxy_replicas=2", "PROXY_MIB=256"]),
        ({"proxy_replicas": 14, "front_mib": 9999}, ["proxy_replicas=14", "PROXY_MIB=256", "lower one of them"]),
        ({"min_replicas": 5}, ["min_replicas=5", "max_replicas=4", "raise the second"]),
        ({"min_replicas": 0, "autoscaling": Autoscaling.CPU}, ["min_replicas=0", "autoscaling=cpu"]),
        ({"requests_per_replica": 5}, ["requests_per_replica=5", "slots=4"]),
        ({"proxy_replicas": 1}, ["proxy_replicas=1", "at least 2"]),
        ({"vpc_cidr": "172.16.0.0/16", "service_cidr": "172.16.8.0/22"}, ["vpc_cidr", "service_cidr", "overlap"]),
        ({"vpc_cidr": "10.0.0.0/24"}, ["vpc_cidr=10.0.0.0/24", "/16 to /20"]),
        ({"vpc_cidr": "10.0.0.1/16"}, ["vpc_cidr has '10.0.0.1/16'", "host bits"]),
        ({"api_allowed_cidrs": ("0.0.0.0/0",)}, ["api_allowed_cidrs", "everybody"]),
        ({"api_keys": "", "api_keys_source": ""}, ["faces the internet", "api_keys", "internal=True", "public=True"]),
        ({"allowed_cidrs": ("0.0.0.0/0",)}, ["allowed_cidrs", "everybody"]),
        ({"zones": 4}, ["zones=4", "2 or 3"]),
        ({"nat_gateways": 3}, ["nat_gateways=3", "zones=2"]),
        ({"traces_to": "http://collector:4318"}, ["traces_to=http://collector:4318", "collector.monitoring:4318"]),
        ({"traced_share": 2}, ["traced_share=2", "1 at most"]),
        ({"kubernetes_version": "1.29"}, ["kubernetes_version=1.29", "1.36"]),
        ({"cpus": 4}, ["cpus=4", "c7i.xlarge", "take a larger node"]),
        ({"slots": 32, "requests_per_replica": 3}, ["slots=32", "context_length=2048", "MiB", "c7i.xlarge"]),
    ],
)
def test_numbers_that_clash_are_both_named(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        replace(DEV, **changes)
    assert all(word in str(error.value) for word in ["stage dev", *words]), str(error.value)


def test_times_are_compared_only_where_cpus_are_reserved_and_everything_that_decides_them_is_the_same() -> None:
    assert LOCAL.shape == ""
    assert replace(DEV, requested_cpus=2).shape == ""
    assert DEV.shape == "moondream on 3 CPUs of c7i.xlarge, f16 keys and values, speculation none"
    assert replace(DEV, slots=3, max_replicas=9).shape == DEV.shape
    for change in ({"kv_type": "q8_0"}, {"speculation": "ngram-mod"}, {"cpus": 2}, {"model": GEMMA_270M}):
        assert replace(DEV, **change).shape != DEV.shape


def test_without_a_load_balancer_a_front_waits_for_endpoints_only() -> None:
    assert replace(DEV, load_balancer=LoadBalancer.NONE, front_prestop=5).front_prestop == 5


OPEN: dict[str, Any] = {"api_keys": "", "api_keys_source": ""}


@pytest.mark.parametrize("reason", [{"public": True}, {"internal": True}, {"allowed_cidrs": ("203.0.113.0/24",)}])
def test_a_stage_without_keys_says_why_that_is_right(reason: dict[str, Any]) -> None:
    assert replace(DEV, **OPEN, **reason).api_keys == ""


@pytest.mark.parametrize("stage", [DEV, PROD], ids=lambda stage: stage.name)
def test_a_stage_of_ours_has_keys(stage: Stage) -> None:
    assert (stage.api_keys, stage.api_keys_source) == ("api-keys", f"sluice/{stage.name}/api-keys")


def test_an_unknown_stage_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="stage 'qa' doesn't exist: local, dev, prod do"):
        find_stage("qa")
    assert find_stage("prod") is PROD


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_the_gateway_takes_what_a_stage_says(stage: Stage) -> None:
    Settings(
        slots=stage.slots,
        threads=stage.cpus,
        context_length=stage.context_length,
        max_tokens=stage.max_tokens,
        queue_timeout=stage.queue_timeout,
        generation_timeout=stage.generation_timeout,
        prestop=stage.prestop,
    )


@pytest.mark.parametrize(
    ("node", "cpus", "mib"),
    # 8,192 less 7.5 %; less 1,465 kept for 110 pods, 100 before pods are evicted, and 128 for what ships logs.
    [(C7I_XLARGE, 3.82, 5884), (C7I_2XLARGE, 7.81, 13462), (C7G_XLARGE, 3.82, 5825), (M7G_LARGE, 1.83, 5825)],
    ids=lambda value: getattr(value, "instance_type", ""),
)
def test_a_node_has_to_give_what_karpenter_reckons(node: Node, cpus: float, mib: int) -> None:
    assert (node.free_cpus, node.free_mib) == (cpus, mib)


@pytest.mark.parametrize("stage", [DEV, PROD], ids=lambda stage: stage.name)
def test_everything_but_the_model_fits_on_as_many_platform_nodes_as_there_are_proxies(stage: Stage) -> None:
    """Requests of argocd/*.yaml, and of metrics-server's add-on; a proxy more while they roll."""
    cpus = 0.8 + (stage.proxy_replicas + 1) * (GATEWAY_CPUS + 0.1)
    mib = 2600 + (stage.proxy_replicas + 1) * (stage.front_mib + PROXY_MIB)
    assert cpus <= stage.proxy_replicas * stage.platform_node.free_cpus
    assert mib <= stage.proxy_replicas * stage.platform_node.free_mib


def test_what_is_kept_and_protected_differs_by_stage() -> None:
    assert (PROD.deletion_protection, PROD.keep_data) == (True, True)
    assert (DEV.deletion_protection, DEV.keep_data) == (False, False)
    assert LOCAL.node is None


@given(
    at_once=st.integers(1, 2000), payload=st.integers(1, 16), receive=st.integers(16, 512), front=st.integers(1, 4096)
)
def test_a_front_and_haproxy_have_memory_for_all_that_they_may_hold(
    at_once: int, payload: int, receive: int, front: int
) -> None:
    try:
        stage = replace(DEV, max_in_flight=at_once, payload_mib=payload, receive_mib=receive, front_mib=front)
    except ConfigError as error:
        assert "MiB" in str(error)
        return
    assert stage.receive_mib + stage.send_mib + at_once * payload < front
    assert at_once * (1 + stage.proxy_replicas) * 2 * BUFFER_BYTES < PROXY_MIB * 2**20


@pytest.mark.usefixtures("programs")
def test_a_mistake_in_a_stage_is_a_sentence_for_every_command(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    stages = tmp_path / "config/stages.py"
    stages.write_text(stages.read_text().replace("slots=8,", "slots=0,"))
    done = subprocess.run([sys.executable, "-c", "import config"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"sluice: config/stages.py: stage prod: .*slots=0.*\n", done.stderr), done.stderr
