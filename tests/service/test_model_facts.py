from typing import Any

import pytest

from service.errors import EngineFailed
from service.model_facts import MAX_FIELDS, MAX_ITEMS, MAX_TEXT, MAX_TEXTS, ModelFacts, running_of

LISTED = {"name": "a:latest", "digest": "d", "size": 5}


def shown(**fields: Any) -> Any:
    return ModelFacts.read("0.32.15", LISTED, fields).shown


def test_facts_are_read_as_they_were_told() -> None:
    facts = ModelFacts.read("0.32.15", LISTED, {"capabilities": ["completion"], "details": {"families": None}})
    told = facts.told()
    assert ModelFacts.read(told["version"], told["listed"], told["shown"]) == facts


@pytest.mark.parametrize(("version", "listed", "said"), [(5, LISTED, {}), ("1", None, {}), ("1", LISTED, ["x"])])
def test_what_is_no_answer_of_ollamas_is_no_fact(version: Any, listed: Any, said: Any) -> None:
    with pytest.raises(EngineFailed):
        ModelFacts.read(version, listed, said)


def test_only_what_is_asked_for_is_kept_and_nothing_that_is_long() -> None:
    kept = shown(tensors=[{"name": "x"}], license="x" * 9_000, template="y" * 99_999, secret="z")
    assert set(kept) == {"license", "template"}
    assert {name: len(text) for name, text in kept.items()} == {
        "license": MAX_TEXTS["license"] + 1,
        "template": MAX_TEXTS["template"] + 1,
    }
    info = {f"field{i}": "x" * 5_000 for i in range(1_000)}
    kept = shown(model_info=info, messages=[{"role": "user", "content": "x" * 5_000}] * 100)
    assert len(kept["model_info"]) == MAX_FIELDS
    assert {len(text) for text in kept["model_info"].values()} == {MAX_TEXT + 1}
    assert len(kept["messages"]) == MAX_ITEMS
    assert shown(model_info={"a": {"b": {"c": {"d": [1]}}}}) == {"model_info": {"a": {"b": {"c": {"d": None}}}}}


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("FROM /root/.ollama/models/blobs/sha256-ab", "FROM sha256-ab"),
        ("ADAPTER /a dir/sha256-cd", "ADAPTER sha256-cd"),
        ("# FROM gemma3:270m", "# FROM gemma3:270m"),
        ('TEMPLATE """/bin/x"""', 'TEMPLATE """/bin/x"""'),
    ],
)
def test_a_modelfile_tells_no_path_of_the_host(line: str, kept: str) -> None:
    assert shown(modelfile=f"# Modelfile\n{line}\nPARAMETER stop x\n")["modelfile"] == (
        f"# Modelfile\n{kept}\nPARAMETER stop x\n"
    )


@pytest.mark.parametrize(
    ("told", "kept"),
    [("/root/.ollama/models/blobs/sha256-ab", "sha256-ab"), ("hf.co/a/b:q4", "hf.co/a/b:q4"), ("", "")],
)
def test_a_models_parent_is_no_path_of_the_host_either(told: str, kept: str) -> None:
    details = {"parent_model": told, "format": "gguf"}
    facts = ModelFacts.read("1", {"details": details}, {"details": details})
    assert facts.listed["details"] == facts.shown["details"] == {"parent_model": kept, "format": "gguf"}


def test_a_model_that_does_not_run_has_no_entry() -> None:
    assert running_of(None) is None
    assert running_of({"name": "a", "size_vram": 7, "pid": 9}) == {"name": "a", "size_vram": 7}


def test_a_model_that_only_embeds_is_listed_so_though_ollama_lists_it_otherwise() -> None:
    facts = ModelFacts.read("0.32.15", LISTED | {"capabilities": ["completion"]}, {"capabilities": ["embedding"]})
    assert facts.listed["capabilities"] == ["embedding"]
    assert "capabilities" not in ModelFacts.read("0.32.15", LISTED, {"capabilities": ["embedding"]}).listed
