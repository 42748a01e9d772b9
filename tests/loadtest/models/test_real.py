import json
import os
from pathlib import Path

import pytest

from loadtest.models.__main__ import main
from loadtest.models.ollama_model import OllamaModel
from loadtest.models.server import fetched
from loadtest.models.variant import Variant
from service.settings import Settings
from tests.support.needs import RunOllama


def test_the_real_model_is_measured_and_what_cannot_be_had_is_named(
    real_ollama: RunOllama, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.models.speed.TOKENS", 4)
    monkeypatch.setattr("loadtest.models.speed.LONG", 4)
    monkeypatch.setattr("loadtest.models.speed.TRIES", 1)
    monkeypatch.setattr("loadtest.models.measure.LOADS", 1)
    with real_ollama(Settings(slots=4)) as ollama:
        environ = {**os.environ, "OLLAMA_HOST": ollama.url}
        names = [f"{ollama.model}@num_thread=1", f"{ollama.model}@num_thread=1,quantize=q8_0"]
        options = ["--rounds", "1", "--questions", "1", "--region", "eu-central-1", "--out", str(tmp_path)]
        assert main([*names, *options], environ) == 0
        still_loaded = OllamaModel(ollama.url, ollama.model, {}).listed()
        with fetched(ollama.url, Variant(ollama.model), environ) as name:
            assert name == ollama.model
    report = json.loads((tmp_path / "models" / "report.json").read_text())
    [found] = report["models"]
    assert not still_loaded
    assert (found["quantization"], found["options"]["num_thread"]) == ("Q4_K_M", 1)
    assert 200 < found["memory_mib"]["process"] < 2000
    assert found["context_length"] == 2048
    assert 0 < found["speed"]["figures"]["tokens_per_s_4"][0] < 1000
    assert found["quality"]["text"]["asked"] == 5
    assert found["answers"][0][:2] == ["facts-italy", True]
    assert found["cost"]["usd_per_1000"] > 0
    [missing] = report["not_compared"]
    assert missing["model"] == names[1]
    assert "quantization is only supported for F16, BF16 and F32 models" in missing["reason"]
    assert f"{names[1]} is not compared: " in capsys.readouterr().out


def test_nothing_measured_is_no_report(
    real_ollama: RunOllama, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with real_ollama(models=tmp_path / "store", model=None) as ollama:
        environ = {**os.environ, "OLLAMA_HOST": ollama.url}
        assert main(["no.such.hub.invalid/x/y", "--out", str(tmp_path), "--region", "us-east-1"], environ) == 1
    out, err = capsys.readouterr()
    assert "is not compared: it isn't in Ollama's store, and the model hub can't be reached" in out
    assert err == "sluice: none of the models could be measured: the lines above say why\n"
    assert not (tmp_path / "models").exists()
