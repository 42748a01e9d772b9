from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from launcher import supervisor as module
from launcher.console import Problem
from launcher.load_model import look_at
from launcher.model_room import MIB, Needs, context_mib, need_room, needs_of, room_mib
from launcher.ollama_process import OllamaProcess
from launcher.supervisor import Supervisor
from service.settings import Settings
from testbed.stand_in import MODEL, StandIn
from testbed.stand_in.model import SIZE
from tests.support.stub import scripted

PAYLOAD = {"model": "some", "keep_alive": -1, "options": {"num_ctx": 2048, "num_thread": 2}}
# Moondream's text model, Phi 2's, as /api/show tells it: 192 KiB for each token.
PHI = {
    "general.architecture": "phi2",
    "phi2.block_count": 24,
    "phi2.embedding_length": 2048,
    "phi2.attention.head_count": 32,
    "phi2.attention.head_count_kv": 32,
}
CHAT, VECTORS = Needs("moondream", 1700, 1536), Needs("all-minilm", 43, 0)


def test_a_model_needs_its_weights_and_a_context_for_each_slot_if_it_chats() -> None:
    stored = {"models": [{"name": "some:latest", "size": 1700 * MIB}]}
    for capability, context in (("completion", 1536), ("embedding", 0)):
        shown = {"capabilities": [capability], "model_info": PHI}
        with scripted(api_show=shown, api_tags=stored) as ollama:
            assert needs_of(ollama.url, look_at(ollama.url, PAYLOAD), 4) == Needs("some", 1700, context)


def test_what_does_not_fit_is_a_sentence_with_both_numbers() -> None:
    need_room([CHAT], 1700 + 1536, 1)
    with pytest.raises(Problem, match=r"1700 MiB of weights and 1536 MiB of context .* 3000 MiB are free; lower SLOTS"):
        need_room([CHAT], 3000, 3000)
    with pytest.raises(
        Problem, match=r"MODEL=moondream doesn't fit in memory: .* 900 MiB are free; take a smaller model"
    ):
        need_room([CHAT], 900, 900)


def test_models_that_do_not_fit_together_are_a_sentence_with_what_each_takes() -> None:
    need_room([CHAT, VECTORS], 3236, 3236 + 43)
    with pytest.raises(Problem) as problem:
        need_room([CHAT, VECTORS], 3236, 3236 + 42)
    assert str(problem.value) == (
        "MODEL=moondream all-minilm: these don't fit in memory together: moondream needs 1700 MiB of weights and "
        "1536 MiB of context, all-minilm needs 43 MiB of weights and 0 MiB of context; "
        "3279 MiB in all are needed, 3278 MiB are free; lower SLOTS or CONTEXT_LENGTH, or take smaller or fewer models"
    )
    with pytest.raises(Problem, match=r"MODEL=moondream doesn't fit in memory: .* 3000 MiB are free"):
        need_room([VECTORS, CHAT], 3000, 9000)  # the limit of each process


def test_nothing_is_loaded_unless_everything_fits(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.others = {"second": ["embedding"]}
    supervisor = Supervisor(Settings(ollama_host=stand_in.url, model=f"{MODEL} second"), {})
    supervisor._ollama = Mock(OllamaProcess)
    monkeypatch.setattr(module, "default_mib", lambda: 2 * SIZE // MIB - 2)
    with pytest.raises(Problem, match=rf"{MODEL} needs .*, second needs .*; {2 * (SIZE // MIB)} MiB in all"):
        supervisor._load_models()
    assert {path for path, _ in stand_in.requests} == {"/api/show"}
    monkeypatch.setattr(module, "default_mib", lambda: 2 * SIZE // MIB)
    supervisor._load_models()
    loads = [(path, body["model"]) for path, body in stand_in.requests if path != "/api/show"]
    assert loads == [("/api/generate", MODEL), ("/api/embed", "second")]


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


def test_the_room_is_known_only_where_the_model_lies_in_it(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4194304 kB\nMemAvailable: 2097152 kB\n")
    assert room_mib(0, {}, root=tmp_path) == int(0.9 * 2048)
    assert room_mib(700, {}, root=tmp_path) == 700
    assert room_mib(700, {"OLLAMA_KV_CACHE_TYPE": "q8_0"}, root=tmp_path) is None
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    assert room_mib(700, {}, root=tmp_path) is None
