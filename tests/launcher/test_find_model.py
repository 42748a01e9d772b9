"""Where the model comes from: a scripted Ollama for its errors, the real one for what it really says."""

import os
from pathlib import Path

import pytest

from launcher import find_model as module
from launcher import small_model
from launcher.console import Problem
from launcher.find_model import find_model
from launcher.ollama_calls import OllamaError, call
from launcher.small_model import SMALL_MODEL
from tests.support.needs import RunOllama
from tests.support.stub import HANG, scripted

MISSING = (404, {"error": "model 'moondream' not found"})
NO_HUB = 'pull model manifest: Get "https://hub.invalid/v2/": dial tcp: lookup hub.invalid: no such host'
IN_THE_IMAGE = {"PATH": ""}  # no uv, so there is no fallback


def test_a_model_that_is_there_is_not_pulled() -> None:
    with scripted(api_show={"capabilities": []}) as ollama:
        assert find_model(ollama.url, "moondream", {}) == "moondream"
        assert [path for path, *_ in ollama.requests] == ["/api/show"]


def test_a_pull_shows_its_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    layer = {"status": "pulling e554c6b9de01", "digest": "sha256:e554c6b9de01", "total": 828_000_000}
    pull = [{"status": "pulling manifest"}, {**layer, "completed": 414_000_000}, {"status": "success"}]
    with scripted(api_show=MISSING, api_pull=pull) as ollama:
        assert find_model(ollama.url, "moondream", {}) == "moondream"
    assert "pulling the model moondream" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pull", "message"),
    [
        ([{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}], "no such model"),
        ([{"status": "pulling 1", "digest": "1"}, {"error": "write /m: no space left on device"}], "no disk space"),
        ([{"error": "pull model manifest: 412: it requires a newer version of Ollama."}], "needs a newer Ollama"),
        ((400, {"error": "invalid model name"}), "MODEL=moondream: invalid model name"),
        ([{"status": "pulling 1", "digest": "1"}, {"error": "dial tcp: i/o timeout"}], "can't get the model"),
        ([{"status": "pulling manifest"}, {"error": "the moon is full"}], "the moon is full"),
        (b"<html>", "can't get the model"),
        ([{"status": "pulling manifest"}, {"error": NO_HUB}], "hub can't be reached, and moondream is not in"),
    ],
)
def test_a_pull_that_fails_is_one_line(pull: object, message: str) -> None:
    with scripted(api_show=MISSING, api_pull=pull) as ollama, pytest.raises(Problem, match=message) as raised:
        find_model(ollama.url, "moondream", IN_THE_IMAGE)
    assert "\n" not in str(raised.value)


def test_a_hub_that_never_answers_counts_as_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HUB_TIMEOUT", 0.1)
    with scripted(api_show=MISSING, api_pull=HANG) as ollama, pytest.raises(Problem, match="can't be reached"):
        find_model(ollama.url, "moondream", IN_THE_IMAGE)


def test_nothing_stands_in_for_one_of_several_models() -> None:
    pull = [{"status": "pulling manifest"}, {"error": NO_HUB}]
    with (
        scripted(api_show=MISSING, api_pull=pull) as ollama,
        pytest.raises(Problem, match="moondream is not in"),
    ):
        find_model(ollama.url, "moondream", dict(os.environ), or_small=False)


def test_an_ollama_that_is_gone_is_one_line() -> None:
    with pytest.raises(Problem, match=r"Ollama can't get the model moondream: .*refused"):
        find_model("http://127.0.0.1:9", "moondream", {})


def test_the_small_model_needs_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_model, "DOWNLOAD_BYTES", 1 << 60)
    environ = {**os.environ, "SLUICE_CACHE": str(tmp_path)}
    with scripted(api_show=MISSING) as ollama, pytest.raises(Problem, match="no disk space"):
        find_model(ollama.url, SMALL_MODEL, environ)


def test_where_the_hub_cannot_be_reached_the_small_model_stands_in(
    real_ollama: RunOllama, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with real_ollama(models=tmp_path, model=None) as ollama:
        # A hub of the test's own on a port where nothing listens; the real Ollama says so in its own words.
        assert find_model(ollama.url, "127.0.0.1:9/library/moondream", os.environ) == SMALL_MODEL
        said = capsys.readouterr().out
        assert "the model hub can't be reached" in said
        assert "connection refused" in said
        assert "stands in for" in said
        # Once it is there, nothing is downloaded again.
        assert find_model(ollama.url, "127.0.0.1:9/library/moondream", os.environ) == SMALL_MODEL
        assert "downloading" not in capsys.readouterr().out
        shown = call(ollama.url, "/api/show", {"model": SMALL_MODEL}, timeout=10)
        assert shown["template"] == small_model.TEMPLATE
        assert shown["capabilities"] == ["completion"]


def test_the_small_model_answers_and_stops(real_ollama: RunOllama) -> None:
    prompts = {"What is the capital of Italy?": "Rome", "What is 2 + 2?": "4", "Hello!": "Hello"}
    with real_ollama() as ollama:
        for prompt, word in prompts.items():
            message, options = {"role": "user", "content": prompt}, {"temperature": 0, "num_predict": 100}
            body = {"model": SMALL_MODEL, "messages": [message], "options": options, "stream": False}
            answer = call(ollama.url, "/api/chat", body, timeout=60)
            assert word in answer["message"]["content"]
            assert answer["done_reason"] == "stop"


def test_an_error_in_the_middle_of_an_answer_is_raised() -> None:
    with scripted(api_pull=[{"status": "a"}, {"error": "b"}]) as ollama, pytest.raises(OllamaError, match="b"):
        call(ollama.url, "/api/pull", {}, timeout=5)
