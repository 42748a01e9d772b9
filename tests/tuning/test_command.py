import os
from pathlib import Path

import pytest

from command_line import Parser
from config import STAGES
from launcher.small_model import SMALL_MODEL
from testbed.real_ollama import models_dir
from tests.support import tunable
from tests.support.needs import RunOllama
from tests.support.several_models import TWO_NODES
from tuning import __main__ as program
from tuning import options
from tuning.engine import Pod
from tuning.options import add_options, read_options
from tuning.setting import KNOBS


@pytest.fixture(autouse=True)
def _shared_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at no setting again because other programs used the CPUs: here, other tests do."""
    monkeypatch.setattr("tuning.search.REPEATS", 0)


def tune(*arguments: str, path: Path | None = None) -> tuple[int, dict[str, str]]:
    environ = {**os.environ, **({"PATH": f"{path}:{os.environ['PATH']}"} if path else {})}
    return program.main(arguments, environ), environ


GOOD = ("--model", "small", "--slo-first-token", "2", "--slo-tokens", "5")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--model", ""], "--model: '' is not a model's name"),
        (["--slo-tokens", ""], "--slo-tokens: '' is not a number of tokens/s above 0"),
        (["--slo-tokens", "fast"], "--slo-tokens: 'fast' is not a number of tokens/s above 0"),
        (["--slo-tokens", "0"], "--slo-tokens: '0' is not a number of tokens/s above 0"),
        (["--slo-first-token", "-1"], "--slo-first-token: '-1' is not a number of seconds above 0"),
        (["--slo-first-token", "nan"], "--slo-first-token: 'nan' is not"),
        (["--seconds", "inf"], "--seconds: 'inf' is not a number of seconds above 0"),
        (["--threads", "1000"], "--threads 1000 is more than the"),
        (["--slots", "2,many"], "--slots: 'many' is not a whole number from 1 to 256"),
        (["--slots", "0"], "--slots: '0' is not a whole number"),
        (["--batch", "-1"], "--batch: '-1' is not a whole number from 0"),
        (["--kv", "q2"], "--kv: 'q2' is none of f16, q8_0, q4_0"),
        (["--speculation", "psychic"], "--speculation: 'psychic' is none of none, ngram-simple"),
        (["--flash", "off", "--kv", "q8_0"], "--kv q8_0 needs --flash on"),
        (["--stage", "moon"], "stage 'moon' doesn't exist"),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_bad_input_gets_one_sentence(more: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pod, "check", lambda *_: pytest.fail("it began all the same"))
        try:
            code = tune(*GOOD, *more)[0]
        except SystemExit as ended:
            code = int(str(ended.code))
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("sluice: ")
    assert words in err


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize(
    ("version", "model", "words"),
    [
        ("0.32.15", "absent", "MODEL=absent isn't in Ollama's store (not found): `ollama pull absent`"),
        ("0.0.0", "vectors", "MODEL=vectors can't write"),
    ],
)
def test_a_model_that_cannot_be_tuned_gets_one_sentence(
    version: str, model: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tunable.install(tmp_path, version)
    assert tune(*GOOD, "--model", model, path=tmp_path)[0] == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert words in err


@pytest.mark.usefixtures("programs")
def test_a_running_ollama_is_tuned_by_how_it_is_started_and_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.options.available_cpus", lambda: 2)
    monkeypatch.setenv("OLLAMA_NUM_PARALLEL", "32")  # a setting decides this, not what the caller happens to have
    monkeypatch.setenv("LLAMA_ARG_SPEC_TYPE", "ngram-cache")
    tunable.install(tmp_path)
    lists = (
        "--slots",
        "2,4,32",
        "--batch",
        "128",
        "--flash",
        "on",
        "--kv",
        "f16",
        "--speculation",
        "none,ngram-simple",
    )
    code, _ = tune(*GOOD, "--seconds", "0.4", *lists, path=tmp_path)
    out, err = capsys.readouterr()
    assert code == 0, err
    assert '```\nslots=4, cpus=2, requests_per_replica=3, speculation="ngram-simple"\n```' in out
    assert "no field for batch=128:" in out
    assert "doesn't run: Ollama can't load MODEL=small: it doesn't fit in memory" in out
    rows = [row.strip("| ").split(" | ") for row in out.splitlines() if row.startswith("| ")]
    rate = float(next(row for row in rows if row[-1] == "the choice")[7])
    step = tunable.seconds_a_token(4, 2, {"OLLAMA_FLASH_ATTENTION": "1", "LLAMA_ARG_SPEC_TYPE": "ngram-simple"})
    assert 0.4 * 4 / step <= rate <= 4 / step * 1.1
    assert all(row[11].isdecimal() for row in rows[1:] if row[6] != "0"), "llama-server's memory"


@pytest.mark.usefixtures("programs")
def test_the_grid_measures_each_combination_of_the_lists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.options.available_cpus", lambda: 2)
    tunable.install(tmp_path)
    lists = ("--slots", "1,4", "--threads", "2", "--speculation", "none,ngram-cache")
    code, _ = tune(*GOOD, "--seconds", "0.2", "--grid", *lists, path=tmp_path)
    out, err = capsys.readouterr()
    assert code == 0, err
    assert err.count("grid ") == 4
    grid = out.partition("## The whole grid")[2].partition("##")[0]
    assert grid.count("\n| ") == 5
    assert "The grid's best is slots=4, threads=2." in grid
    assert "the choice is at" in grid


def test_the_real_model_is_tuned_on_the_real_ollama(real_ollama: RunOllama, capsys: pytest.CaptureFixture[str]) -> None:
    with real_ollama():  # puts the model into the store
        pass
    environ = {**os.environ, "OLLAMA_MODELS": str(models_dir())}
    lists = ("--slots", "2", "--batch", "0", "--flash", "on", "--kv", "q8_0", "--speculation", "none,ngram-simple")
    slo = ("--slo-first-token", "60", "--slo-tokens", "0.05")
    code = program.main(["--model", SMALL_MODEL, *slo, "--seconds", "1", "--threads", "1", *lists], environ)
    out, err = capsys.readouterr()
    assert code == 0, err
    assert 'slots=2, cpus=1, requests_per_replica=1, kv_type="q8_0"' in out
    rows = [row.strip("| ").split(" | ") for row in out.splitlines() if row.startswith("| ")][1:]
    assert len(rows) == 2
    assert all(float(row[7]) > 0 and float(row[10]) > 0 and int(row[11]) > 200 for row in rows), rows


@pytest.mark.parametrize(("model", "slots", "cpus"), [("all-minilm:latest", 2, 1), ("moondream", 8, 7), ("x", 8, 7)])
def test_a_model_starts_from_its_own_numbers_in_the_stage_or_from_the_first_ones(
    monkeypatch: pytest.MonkeyPatch, model: str, slots: int, cpus: int
) -> None:
    monkeypatch.setitem(STAGES, "two", TWO_NODES)
    monkeypatch.setattr(options, "available_cpus", lambda: 8)
    parser = Parser()
    add_options(parser)
    arguments = ["--model", model, "--stage", "two", "--slo-first-token", "1", "--slo-tokens", "1"]
    asked = read_options(parser.parse_args(arguments))
    assert (asked.start.slots, asked.start.threads) == (slots, cpus)
    assert (asked.stage.slots, asked.stage.cpus) == (slots, cpus)


def test_every_knob_that_can_be_tried_is_an_option() -> None:
    parser = Parser()
    add_options(parser)
    asked = parser.parse_args([*GOOD])
    assert all(hasattr(asked, knob) for knob in KNOBS)
