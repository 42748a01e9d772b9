"""A stage may serve several models: each sees the stage as if it were alone, and what can't be served is refused."""

from dataclasses import fields, replace
from typing import Any

import pytest

from config import (
    ALL_MINILM,
    C7I_2XLARGE,
    C7I_XLARGE,
    DEV,
    GEMMA_270M,
    LOCAL,
    PROD,
    STAGES,
    ConfigError,
    Model,
    ServedModel,
    Stage,
)
from config.model import full_name
from service import model_names
from tests.support.several_models import EMBEDDING, TWO_MODELS


def named(name: str, **fields: Any) -> ServedModel:
    return ServedModel(model=Model(name=name, weights_mib=1, kv_kib_per_token=1), **fields)


def serving(*more: ServedModel, **changes: Any) -> Stage:
    return replace(DEV, more_models=more, **changes)


def test_what_a_model_says_nothing_of_is_as_the_stage_has_it() -> None:
    chat, embedding = TWO_MODELS.each_model
    assert (chat.model, chat.aliases, chat.slots, chat.max_replicas) == (DEV.model, ("gpt-4o-mini",), 4, 4)
    assert (embedding.model, embedding.aliases) == (ALL_MINILM, ("text-embedding-3-small",))
    assert (embedding.slots, embedding.cpus, embedding.min_replicas, embedding.max_replicas) == (2, 1, 0, 2)
    assert (embedding.context_length, embedding.kv_type, embedding.node) == (DEV.context_length, "f16", DEV.node)
    assert (embedding.name, embedding.namespace, embedding.api_keys) == (DEV.name, DEV.namespace, DEV.api_keys)
    assert [view.more_models for view in TWO_MODELS.each_model] == [(), ()]


def test_a_front_has_the_same_number_of_places_for_each_model() -> None:
    assert [view.max_in_flight for view in TWO_MODELS.each_model] == [64, 64]
    assert [view.max_in_flight for view in serving(EMBEDDING, named("a")).each_model] == [42, 42, 42]


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_a_stage_with_one_model_is_what_that_model_sees(stage: Stage) -> None:
    assert stage.each_model == (stage,)


def test_a_model_may_say_whatever_a_stage_says_of_its_pods() -> None:
    assert {field.name for field in fields(ServedModel)} < {field.name for field in fields(Stage)}


@pytest.mark.parametrize("name", ["all-minilm", "all-minilm:latest", "ALL-MiniLM", "text-embedding-3-small"])
def test_a_model_is_found_by_its_name_and_its_aliases(name: str) -> None:
    assert TWO_MODELS.of(name).model == ALL_MINILM
    assert TWO_MODELS.of("moondream").model == DEV.model


def test_a_model_that_is_not_served_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="stage dev has no model 'llava': it serves moondream, all-minilm"):
        TWO_MODELS.of("llava")


def test_names_are_compared_as_the_gateway_compares_them() -> None:
    for name in ("a", "A:1b", "hf.co/A/B", "hf.co/A/B:Q4", "library/a", "registry.ollama.ai/library/a:latest"):
        assert full_name(name) == model_names.full_name(name)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"more_models": EMBEDDING}, "more_models must be a tuple of ServedModel"),
        ({"more_models": (EMBEDDING.model,)}, "more_models must be a tuple of ServedModel"),
        ({"more_models": (named("Moondream:latest"),)}, "model Moondream:latest is there twice: name each model once"),
        (
            {"more_models": (named("a", aliases=("moondream",)),)},
            "alias moondream is a model that the stage serves: remove it from aliases",
        ),
        (
            {"aliases": ("gpt",), "more_models": (named("a", aliases=("GPT",)),)},
            "alias GPT is there twice: an alias stands for one model",
        ),
        ({"aliases": ("moondream:latest",)}, "alias moondream:latest is a model that the stage serves"),
        ({"aliases": "gpt"}, "aliases='gpt' is a text: write a tuple, ('gpt',)"),
        ({"more_models": (named("a", aliases="gpt"),)}, "aliases='gpt' is a text: write a tuple, ('gpt',)"),
        ({"aliases": ("two words",)}, "'two words' can't be a model's name in Ollama: a letter or digit, then"),
        ({"more_models": (named("a=b"),)}, "'a=b' can't be a model's name in Ollama"),
        (
            {"more_models": (named("a:1"), named("a.1"))},
            "models a:1 and a.1 would both have pods named sluice-a-1: give one another name in Ollama",
        ),
        (
            {"max_in_flight": 30, "more_models": (EMBEDDING,)},
            "max_in_flight=30 gives each of 2 models 15, and moondream has 16 slots in max_replicas=4 pods: raise",
        ),
        ({"max_in_flight": 1, "more_models": (EMBEDDING,)}, "max_in_flight=1 must be at least 2, one for each model"),
    ],
)
def test_models_that_cannot_be_told_apart_or_have_no_room_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        replace(DEV, **changes)
    assert str(error.value).startswith(f"stage dev: {sentence}")


def test_a_number_of_one_model_that_does_not_fit_is_refused_with_its_name() -> None:
    with pytest.raises(ConfigError, match=r"^model all-minilm of stage dev: a pod of cpus=4 needs 4.5 CPUs"):
        serving(replace(EMBEDDING, cpus=4))
    with pytest.raises(ConfigError, match=r"^model all-minilm of stage dev: requests_per_replica=3 must be 1 to slots"):
        serving(replace(EMBEDDING, requests_per_replica=3))


def test_a_model_has_no_node_where_the_stage_has_none() -> None:
    with pytest.raises(ConfigError, match="model gemma3-270m has a node, but the stage itself has node=None"):
        replace(LOCAL, model=ALL_MINILM, more_models=(ServedModel(model=GEMMA_270M, node=C7I_XLARGE),))


def test_models_on_one_instance_type_share_a_pool_and_others_have_their_own() -> None:
    shared, apart = serving(EMBEDDING), serving(replace(EMBEDDING, node=C7I_2XLARGE, max_replicas=4))
    assert shared.model_nodes == {C7I_XLARGE: 5 + 3}
    assert apart.model_nodes == {C7I_XLARGE: 5, C7I_2XLARGE: 5}
    assert [apart.pool(node) for node in apart.model_nodes] == ["sluice", "sluice-c7i-2xlarge"]
    assert apart.vcpus == DEV.vcpus + 5 * 8


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("llama3.2:1b", "llama3-2-1b"),
        ("hf.co/bartowski/Llama_3:Q4", "hf-co-bartowski-llama-3-q4"),
        ("a" * 80, "a" * 50),
        (49 * "a" + ":b", 49 * "a"),
    ],
)
def test_a_models_name_becomes_a_part_of_a_dns_label(name: str, slug: str) -> None:
    assert named(name).model.slug == slug


def test_prods_fronts_have_places_for_two_models_that_are_as_large_as_its_own() -> None:
    assert replace(PROD, more_models=(named("a"),)).each_model[1].slots == PROD.slots
