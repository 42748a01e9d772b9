"""What each model of a stage has of its own, and that a change of one leaves the others alone."""

import re
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from cdk8s_manifests.__main__ import read_weights
from cdk8s_manifests.haproxy_cfg import haproxy_cfg
from cdk8s_manifests.main import render
from cdk8s_manifests.names import object_names
from command_line import InputError
from config import LOCAL, Autoscaling, ConfigError, Stage
from service.front import MODEL_NAME
from service.settings import Settings
from tests.support.rendered import IMAGE, container, files, find, objects, pod
from tests.support.several_models import EMBEDDING, LOCAL_TWO, TWO_MODELS, TWO_NODES

CHAT, OTHER = "gemma3-270m", "all-minilm"
DIGESTS = {CHAT: "sha256:" + "a" * 64, OTHER: "sha256:" + "b" * 64}


def names(stage: Stage) -> set[tuple[str, str]]:
    return {(obj["kind"], obj["metadata"]["name"]) for obj in objects(stage)}


def test_one_more_model_adds_objects_of_its_own_and_renames_none() -> None:
    before = replace(LOCAL_TWO, more_models=())
    assert names(LOCAL_TWO) - names(before) == {
        ("ConfigMap", "sluice-all-minilm"),
        ("Deployment", "sluice-all-minilm"),
        ("NetworkPolicy", "sluice-all-minilm"),
        ("PodDisruptionBudget", "sluice-all-minilm"),
        ("ScaledObject", "sluice-all-minilm"),
        ("Service", "pods-all-minilm"),
        ("ServiceAccount", "sluice-all-minilm"),
    }
    assert names(before) <= names(LOCAL_TWO)


def changed(before: Stage, after: Stage) -> set[str]:
    """Return the files that a change of the stage touches."""
    old, new = files(before), files(after)
    return {name for name in old | new if old.get(name) != new.get(name)}


def test_one_more_model_replaces_no_pod_of_the_first() -> None:
    assert not {
        name for name in changed(replace(LOCAL_TWO, more_models=()), LOCAL_TWO) if name.endswith("-sluice.yaml")
    }


def test_each_models_pods_have_its_own_numbers() -> None:
    settings = {name: find(LOCAL_TWO, "ConfigMap", name)["data"] for name in ("sluice", "sluice-all-minilm")}
    assert {name: each["MODEL"] for name, each in settings.items()} == {"sluice": CHAT, "sluice-all-minilm": OTHER}
    assert (settings["sluice"]["SLOTS"], settings["sluice-all-minilm"]["SLOTS"]) == ("4", "2")
    embedding = LOCAL_TWO.each_model[1]
    limits = container(LOCAL_TWO, "sluice-all-minilm", "ollama")["resources"]["limits"]
    assert limits == {"cpu": "1", "memory": f"{embedding.ollama_mib}Mi"}
    config = {"configMapRef": {"name": "sluice-all-minilm"}}
    assert all(container(LOCAL_TWO, "sluice-all-minilm", name)["envFrom"] == [config] for name in ("ollama", "gateway"))


def test_the_fronts_know_every_model_and_alias_and_the_first_is_the_default() -> None:
    settings = Settings.from_environ(find(LOCAL_TWO, "ConfigMap", "front")["data"])
    assert settings.names.models == (CHAT, OTHER)
    assert settings.names.aliases == {"gpt-4o-mini": CHAT, "text-embedding-3-small": OTHER}
    assert settings.max_in_flight == LOCAL.max_in_flight
    assert "ALIASES" not in find(LOCAL, "ConfigMap", "front")["data"]


def test_a_models_pods_belong_to_no_other_model() -> None:
    labels = find(LOCAL_TWO, "Deployment", "sluice-all-minilm")["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == "sluice-all-minilm"
    assert find(LOCAL_TWO, "Service", "pods-all-minilm")["spec"]["selector"].items() <= labels.items()
    assert not find(LOCAL_TWO, "Service", "pods")["spec"]["selector"].items() <= labels.items()
    for kind in ("PodDisruptionBudget", "Deployment"):
        selector = find(LOCAL_TWO, kind, "sluice-all-minilm")["spec"]["selector"]["matchLabels"]
        assert selector.items() <= labels.items()


def test_each_models_autoscaler_follows_its_own_queue() -> None:
    for name, queue, least, most in (("sluice", "generate", 2, 2), ("sluice-all-minilm", "generate-all-minilm", 0, 2)):
        spec = find(LOCAL_TWO, "ScaledObject", name)["spec"]
        assert spec["scaleTargetRef"] == {"name": name}
        assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (least, most)
        [trigger] = spec["triggers"]
        assert trigger["metadata"]["valueLocation"] == f'haproxy_backend_current_sessions{{proxy="{queue}"}}'
        assert f"\nbackend {queue}\n" in find(LOCAL_TWO, "ConfigMap", "proxy")["data"]["haproxy.cfg"]


def test_by_cpu_each_model_has_an_autoscaler_too() -> None:
    by_cpu = replace(LOCAL_TWO, autoscaling=Autoscaling.CPU, more_models=(replace(EMBEDDING, min_replicas=1),))
    spec = find(by_cpu, "HorizontalPodAutoscaler", "sluice-all-minilm")["spec"]
    assert spec["scaleTargetRef"]["name"] == "sluice-all-minilm"
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 2)


def test_haproxy_has_room_in_its_own_queue_for_each_models_pods() -> None:
    text = haproxy_cfg(LOCAL_TWO)
    servers = re.findall(r"server-template pod (\d+) (\S+?)\.\S+:5000 port 9090 maxconn (\d+)", text)
    assert servers == [("4", "pods", "4"), ("4", "pods-all-minilm", "2")]


@pytest.mark.parametrize(("stage", "pool"), [(TWO_MODELS, "sluice"), (TWO_NODES, "sluice-c7i-xlarge")])
def test_a_models_pods_go_to_the_nodes_that_its_numbers_were_made_for(stage: Stage, pool: str) -> None:
    assert pod(stage, "sluice")["nodeSelector"] == {"karpenter.sh/nodepool": "sluice"}
    assert pod(stage, "sluice-all-minilm")["nodeSelector"] == {"karpenter.sh/nodepool": pool}
    assert pod(stage, "sluice-all-minilm")["tolerations"] == pod(stage, "sluice")["tolerations"]


def test_haproxy_knows_each_model_by_what_fronts_call_it() -> None:
    names = Settings.from_environ(find(LOCAL_TWO, "ConfigMap", "front")["data"]).names.models
    [known] = set(re.findall(rf"!{{ req.hdr\({MODEL_NAME}\) -m str (.*?) }}", haproxy_cfg(LOCAL_TWO)))
    assert known.split() == [quote(name, safe="") for name in names]


def test_every_name_is_one_that_kubernetes_takes() -> None:
    longest = replace(EMBEDDING, model=replace(EMBEDDING.model, name="hf.co/" + "Long_Name/" * 9 + "a:Q4"))
    stage = replace(LOCAL_TWO, more_models=(longest,))
    for kind, name in names(stage):
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name), (kind, name)
    assert object_names(stage, stage.each_model[1]).header == "hf.co%2F" + "Long_Name%2F" * 9 + "a%3AQ4"


def rendered(**digests: str) -> dict[str, str]:
    weights = {CHAT: DIGESTS[CHAT], OTHER: DIGESTS[OTHER], **{name.replace("_", "-"): d for name, d in digests.items()}}
    return render(LOCAL_TWO, image=IMAGE, weights=weights, context=None)


def test_other_weights_of_one_model_change_its_deployment_alone() -> None:
    before, after = rendered(), rendered(all_minilm="sha256:" + "c" * 64)
    assert [name for name in before if before[name] != after[name]] == ["deployment-sluice-all-minilm.yaml"]
    assert "weights@sha256:" + "c" * 64 in after["deployment-sluice-all-minilm.yaml"]
    assert "weights@" + DIGESTS[CHAT] in after["deployment-sluice.yaml"]


def test_another_number_of_one_model_replaces_its_pods_and_those_that_must_know_it() -> None:
    cpus = replace(LOCAL_TWO, more_models=(replace(EMBEDDING, cpus=2),))
    assert changed(LOCAL_TWO, cpus) == {"configmap-sluice-all-minilm.yaml", "deployment-sluice-all-minilm.yaml"}
    slots = replace(LOCAL_TWO, more_models=(replace(EMBEDDING, slots=3),))
    its = {f"{kind}-{name}.yaml" for kind in ("configmap", "deployment") for name in ("sluice-all-minilm", "proxy")}
    assert changed(LOCAL_TWO, slots) == its


def test_a_model_without_weights_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match="stage local serves all-minilm, and its weights have no digest: those of"):
        render(LOCAL_TWO, image=IMAGE, weights={CHAT: DIGESTS[CHAT]}, context=None)


def test_weights_are_named_by_their_models_and_alone_need_no_name() -> None:
    text = " ".join(f"{name}={digest}" for name, digest in DIGESTS.items())
    assert read_weights(LOCAL_TWO, text) == DIGESTS
    assert read_weights(LOCAL, text) == DIGESTS  # the promotion of a stage with more models
    assert read_weights(LOCAL, DIGESTS[CHAT]) == {CHAT: DIGESTS[CHAT]}


@pytest.mark.parametrize("text", [DIGESTS[CHAT], f"{CHAT}={DIGESTS[CHAT]} {DIGESTS[OTHER]}", f"={DIGESTS[CHAT]}", "a="])
def test_weights_of_several_models_say_whose_they_are(text: Any) -> None:
    with pytest.raises(InputError, match="is not MODEL=DIGEST; local serves gemma3-270m, all-minilm"):
        read_weights(LOCAL_TWO, text)
