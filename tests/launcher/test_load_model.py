import json
from pathlib import Path
from typing import Any

import pytest

from launcher.console import Problem
from launcher.load_model import MIB, context_mib, load_model, room_mib
from tests.support.stub import Stub, scripted

PAYLOAD = {"model": "some", "keep_alive": -1, "options": {"num_ctx": 2048, "num_thread": 2}}
CHATS: dict[str, Any] = {"capabilities": ["completion"]}
# Moondream's text model, Phi 2's, as /api/show tells it: 192 KiB for each token.
PHI = {
    "general.architecture": "phi2",
    "phi2.block_count": 24,
    "phi2.embedding_length": 2048,
    "phi2.attention.head_count": 32,
    "phi2.attention.head_count_kv": 32,
}


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


def test_what_does_not_fit_is_not_loaded_and_both_numbers_are_said() -> None:
    stored = {"models": [{"name": "some:latest", "size": 1700 * MIB}]}
    shown = CHATS | {"model_info": PHI}
    with scripted(api_show=shown, api_tags=stored, api_generate={"done": True}) as ollama:
        load_model(ollama.url, PAYLOAD, slots=4, room_mib=1700 + 1536)
        assert asked(ollama)[0] == "/api/generate"
        asked_before = len(ollama.requests)
        with pytest.raises(
            Problem, match=r"1700 MiB of weights and 1536 MiB of context .* 3000 MiB are free; lower SLOTS"
        ):
            load_model(ollama.url, PAYLOAD, slots=4, room_mib=3000)
        with pytest.raises(
            Problem, match=r"MODEL=some doesn't fit in memory: .* 900 MiB are free; take a smaller model"
        ):
            load_model(ollama.url, PAYLOAD, slots=4, room_mib=900)
        assert "/api/generate" not in [path for path, *_ in ollama.requests[asked_before:]]


@pytest.mark.parametrize(
    ("info", "mib"),
    [
        (PHI, 1536),
        (PHI | {"phi2.attention.key_length": 32, "phi2.attention.value_length": 32}, 768),
        (PHI | {"phi2.attention.head_count_kv": [32, 8]}, 0),
        (PHI | {"phi2.attention.sliding_window": 512}, 1536),
        (PHI | {"phi2.ssm.conv_kernel": 4}, 0),
        ({}, 0),
    ],
)
def test_the_context_is_counted_where_it_is_all_kept(info: dict[str, Any], mib: int) -> None:
    assert context_mib(info, 4 * 2048) == mib


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            "llama-server process has terminated: exit status 1: unknown model architecture: 'new4'",
            "needs a newer Ollama",
        ),
        ('tensor "output.weight" offset+size (9) exceeds file size (8)', "its file is broken"),
        ("llama-server process has terminated: ggml_aligned_malloc: insufficient memory", "it doesn't fit in memory"),
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


def test_the_room_is_known_only_where_the_model_lies_in_it(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4194304 kB\nMemAvailable: 2097152 kB\n")
    assert room_mib(0, {}, root=tmp_path) == int(0.9 * 2048)
    assert room_mib(700, {}, root=tmp_path) == 700
    assert room_mib(700, {"OLLAMA_KV_CACHE_TYPE": "q8_0"}, root=tmp_path) is None
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    assert room_mib(700, {}, root=tmp_path) is None
