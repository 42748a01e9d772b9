import json
from typing import Any

import pytest

from launcher.console import Problem
from launcher.load_model import load_model, look_at, need_all_loaded
from tests.support.stub import Stub, scripted

PAYLOAD = {"model": "some", "keep_alive": -1, "options": {"num_ctx": 2048, "num_thread": 2}}
CHATS: dict[str, Any] = {"capabilities": ["completion"]}


def asked(ollama: Stub) -> tuple[str, dict[str, Any]]:
    """Return path and body of the last request."""
    path, body, *_ = ollama.requests[-1]
    return path, json.loads(body)


def test_a_model_is_loaded_as_the_requests_to_it_need_it() -> None:
    with scripted(api_show=CHATS, api_generate={"done": True}) as ollama:
        load_model(ollama.url, PAYLOAD)
        assert asked(ollama) == ("/api/generate", {**PAYLOAD, "shift": False})
    with scripted(api_show={"capabilities": ["embedding"]}, api_embed={"embeddings": []}) as ollama:
        load_model(ollama.url, PAYLOAD)
        assert asked(ollama) == ("/api/embed", {**PAYLOAD, "input": []})


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            "llama-server process has terminated: exit status 1: unknown model architecture: 'new4'",
            "needs a newer Ollama",
        ),
        ('tensor "output.weight" offset+size (9) exceeds file size (8)', "its file is broken"),
        ("llama-server process has terminated: ggml_aligned_malloc: insufficient memory", "it doesn't fit in memory"),
        ("llama-server process has terminated: GGML_ASSERT(rc == 0) failed", "it can't start its threads"),
        ("something else", "Ollama can't load MODEL=some: something else"),
    ],
)
def test_why_a_model_does_not_load_is_a_sentence(error: str, words: str) -> None:
    with scripted(api_show=CHATS, api_generate=(500, {"error": error})) as ollama:
        with pytest.raises(Problem, match=words) as problem:
            load_model(ollama.url, PAYLOAD)
        assert "\n" not in str(problem.value)


def test_a_model_that_neither_chats_nor_embeds_is_not_loaded() -> None:
    with scripted(api_show={"capabilities": ["image"]}) as ollama:
        with pytest.raises(Problem, match="MODEL=some can neither chat nor embed: what it has is image"):
            load_model(ollama.url, PAYLOAD)
        assert len(ollama.requests) == 1


def test_an_ollama_that_unloads_one_model_for_another_is_one_line() -> None:
    loaded = {"models": [{"name": "Second:latest"}, {"name": "other:latest"}]}
    with scripted(api_show=CHATS, api_ps=loaded) as ollama:
        first, second = (look_at(ollama.url, PAYLOAD | {"model": name}) for name in ("first", "second"))
        need_all_loaded(ollama.url, [second])
        with pytest.raises(Problem, match=r"has unloaded first .*: set its OLLAMA_MAX_LOADED_MODELS to 2"):
            need_all_loaded(ollama.url, [first, second])
