import os

import pytest

from launcher.console import Problem
from loadtest.models.__main__ import main
from loadtest.models.server import open_server
from loadtest.models.variant import Variant, read_variants
from service.settings import Settings
from testbed.ports import free_port
from tests.support.needs import RunOllama


def test_a_variant_is_written_and_read_the_same() -> None:
    [plain, set_] = read_variants(["llama3.2:1b", "llama3.2:1b@num_ctx=4096,kv=q8_0"])
    assert (plain.label, set_.label) == ("llama3.2:1b", "llama3.2:1b@num_ctx=4096,kv=q8_0")
    assert (plain.environ(), set_.environ()) == ({}, {"OLLAMA_KV_CACHE_TYPE": "q8_0"})
    assert set_.options(Settings(threads=3)) == {"num_ctx": 4096, "num_thread": 3}
    assert read_variants(["x@flash=off"])[0].environ() == {"OLLAMA_FLASH_ATTENTION": "0"}
    assert read_variants(["x@quantize=q4_K_M"])[0].quantize == "q4_K_M"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], 'no model is named: make models MODELS="moondream llama3.2 llama3.2@kv=q8_0"'),
        (["x", "x"], "x is named twice: once is enough"),
        (["@kv=q8_0"], "'@kv=q8_0' has no model before the @: write NAME@setting=value"),
        (
            ["x@kv"],
            "'x@kv' must be NAME@setting=value,setting=value with each of num_ctx, num_thread, kv, flash, quantize at "
            "most once",
        ),
        (["x@kv=q2"], "kv=q2 in 'x@kv=q2' is none of f16, q8_0, q4_0"),
        (["x@ctx=9"], "'ctx' in 'x@ctx=9' is no setting: num_ctx, num_thread, kv, flash, quantize are"),
        (["x@num_ctx=many"], "num_ctx=many in 'x@num_ctx=many' is not a whole number from 128 to 1048576"),
        (["x@num_thread=0"], "num_thread=0 in 'x@num_thread=0' is not a whole number from 1 to 1024"),
        (
            ["x@kv=q8_0,flash=off"],
            "'x@kv=q8_0,flash=off' can't be: Ollama quantises the cache only with flash=on",
        ),
        (["x", "--rounds", "0"], "--rounds: '0' is not a whole number, 1 or more"),
        (["x", "--rounds", "few"], "--rounds: 'few' is not a whole number, 1 or more"),
        (["x", "--stage", "local"], "--stage local has no nodes that cost something: take dev or prod"),
        (["x", "--stage", "staging"], "--stage: stage 'staging' doesn't exist: local, dev, prod do"),
        (["x", "--region", "moon-1"], "region 'moon-1' has no prices in prices.toml: eu-central-1, us-east-1 have"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(arguments, {})
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    assert (code, capsys.readouterr().err) == (2, f"sluice: {sentence}\n")


def test_an_ollama_that_runs_already_is_used_as_it_is_or_refused(real_ollama: RunOllama) -> None:
    absent = {"OLLAMA_HOST": f"127.0.0.1:{free_port()}"}
    with pytest.raises(Problem, match=r"^no Ollama answers at OLLAMA_HOST="), open_server(Variant("x"), absent):
        pass
    with real_ollama(model=None) as running:
        environ = {**os.environ, "OLLAMA_HOST": running.url}
        with open_server(Variant("x"), environ) as server:
            assert (server.url, server.pid) == (running.url, None)
        variant = Variant("x", {"kv": "q8_0"})
        with pytest.raises(Problem, match=r"so OLLAMA_KV_CACHE_TYPE can't be set$"), open_server(variant, environ):
            pass
