import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from cdk8s_manifests.gateway_settings import ollama_variables
from command_line import Parser
from config import DEV, LOCAL, ConfigError
from launcher.console import Problem
from launcher.ollama_calls import OllamaError
from launcher.small_model import SMALL_MODEL
from testbed.real_ollama import models_dir, real_ollama
from tests import tunable
from tuning import __main__ as program
from tuning.callers import BEGUN, ENOUGH, TOKENS, Callers
from tuning.engine import Pod
from tuning.grid import compare, measure_grid, settings
from tuning.measured import Measured, together
from tuning.objective import HOPELESS, NOISE, Slo
from tuning.options import add_options
from tuning.prompts import prompt
from tuning.report import Report
from tuning.search import REPEATS, Search, Trial
from tuning.setting import KNOBS, Setting
from tuning.stage_line import evidence, fields, line, outside

SLO = Slo(first_token=2.0, tokens=5.0)
USUAL = Setting(slots=4, threads=2)
CHOICES: dict[str, list[Any]] = {
    "slots": [2, 4, 8, 16],
    "threads": [1, 2],
    "batch": [0, 128, 256],
    "flash": ["on", "off"],
    "kv": ["f16", "q8_0", "q4_0"],
    "speculation": ["none", "ngram-simple", "ngram-mod", "ngram-cache"],
}


def found(rate: float = 40.0, slowest: float = 10.0, first: float = 1.0, **more: Any) -> Measured:
    return Measured(
        **{
            "rate": rate,
            "slowest": slowest,
            "first_tokens": (first,),
            "memory_mib": 300,
            "efficiency": 20.0,
            "others": 0.0,
            **more,
        }
    )


# What is better


def test_a_setting_meets_the_slo_only_with_both_of_its_figures() -> None:
    assert SLO.met_by(found(slowest=5.0, first=2.0))
    assert not SLO.met_by(found(slowest=4.9))
    assert not SLO.met_by(found(first=2.1))
    assert SLO.closeness(found(slowest=2.5, first=3.0)) == 0.5


def test_more_tokens_win_only_by_more_than_noise_and_never_over_the_slo() -> None:
    assert not SLO.better(found(40 * NOISE), found(40))
    assert SLO.better(found(40 * NOISE + 0.1), found(40))
    assert SLO.better(found(20), found(400, slowest=4.9))
    assert not SLO.better(found(400, slowest=4.9), found(20))
    assert SLO.better(found(10, slowest=4.0), found(400, slowest=3.0)), "closer, where none meets it"


def test_what_a_second_look_cannot_turn_round_is_hopeless() -> None:
    assert SLO.hopeless(found(40 * HOPELESS - 0.1), found(40))
    assert not SLO.hopeless(found(40 * HOPELESS + 0.1), found(40))
    assert SLO.hopeless(found(400, slowest=1.0), found(40))
    assert not SLO.hopeless(found(390, slowest=4.9), found(400, slowest=5.0)), "a hair off the SLO may be noise"


def test_looks_are_averaged_and_their_first_tokens_pooled() -> None:
    both = together(
        [found(30, 8, 1.0, memory_mib=None, efficiency=None), found(50, 12, 3.0, memory_mib=310, others=0.2)]
    )
    assert (both.rate, both.slowest, both.first_tokens) == (40, 10, (1.0, 3.0))
    assert (both.memory_mib, both.efficiency, both.others, both.looks) == (310, 20.0, 0.2, 2)
    assert replace(both, first_tokens=tuple(map(float, range(100)))).p95_first_token == 95.0


# The search


def modelled(setting: Setting) -> Measured:
    """A machine on which slots share the weights until they fill it, and knobs that change a step's time."""
    step = 0.02 + 0.004 * setting.slots + (0.3 if setting.slots > 8 else 0.0)
    step *= {1: 1.8, 2: 1.0}[setting.threads]
    step *= {"on": 1.0, "off": 1.15}[setting.flash] * {"f16": 1.0, "q8_0": 1.08, "q4_0": 0.9}[setting.kv]
    step *= {"ngram-simple": 1.0 - 0.3 / setting.slots, "ngram-cache": 1.5}.get(setting.speculation, 1.0)
    step *= {0: 1.0, 128: 0.93, 256: 1.0}[setting.batch]
    return found(setting.slots / step, 1 / step, 0.1 * setting.slots)


class Looks:
    def __init__(self, machine: Callable[[Setting], Measured], noise: float = 0.0) -> None:
        self.machine, self.noise, self.chance, self.seen = machine, noise, Random(7), list[Setting]()

    def __call__(self, setting: Setting) -> Measured:
        self.seen.append(setting)
        exact, factor = self.machine(setting), self.chance.uniform(1 - self.noise, 1 + self.noise)
        return replace(exact, rate=exact.rate * factor, slowest=exact.slowest * factor)


def test_changes_that_win_only_together_are_found() -> None:
    def machine(setting: Setting) -> Measured:
        both = setting.slots == 8 and setting.batch == 128
        return found(60 if both else 41 if setting.slots == 8 or setting.batch == 128 else 40)

    search = Search(machine, SLO, {**CHOICES, "threads": [2]}, lambda line: None)
    best = search.run(USUAL)
    assert (best.setting.slots, best.setting.batch, best.fate) == (8, 128, "the choice")
    assert search.trials[USUAL].fate == "left for slots=8, batch=128"


def test_a_look_that_something_else_disturbs_is_made_again_so_often_as_there_is_time_for() -> None:
    shares = iter([0.0, 0.5, 0.4, 0.0, *[0.9] * 100])
    said = list[str]()
    search = Search(lambda setting: found(others=next(shares)), SLO, CHOICES, said.append)
    best = search.run(USUAL)
    assert [look.others for look in best.looks[:1]] == [0.0]
    assert len([line for line in said if "looking again, since something else used" in line]) == REPEATS
    assert "looking again, since something else used 50% of the CPUs" in said[1]


def search(looks: Looks, slo: Slo = SLO, **choices: list[Any]) -> Search:
    return Search(looks, slo, CHOICES | choices, lambda line: None)


@pytest.mark.parametrize("noise", [0.0, 0.03])
@pytest.mark.parametrize("slo", [SLO, Slo(first_token=0.5, tokens=5), Slo(first_token=2, tokens=24)], ids=str)
@pytest.mark.parametrize("start", [USUAL, Setting(slots=16, threads=1), Setting(slots=2, threads=2)], ids=str)
def test_the_choice_is_within_a_tenth_of_the_grids_best_for_few_looks(start: Setting, slo: Slo, noise: float) -> None:
    looks = Looks(modelled, noise)
    choice = search(looks, slo).run(start)
    best = max(map(modelled, settings(CHOICES)), key=slo.rank)
    assert slo.met_by(best), "this test needs an SLO that can be met"
    assert slo.closeness(modelled(choice.setting)) >= 1 - noise
    assert modelled(choice.setting).rate >= 0.9 * best.rate
    assert len(looks.seen) <= 45
    assert len(list(settings(CHOICES))) == 384


def test_what_loses_clearly_is_looked_at_once_and_says_by_how_much() -> None:
    looks = Looks(modelled)
    trials = search(looks)
    trials.run(USUAL)
    one_thread = Setting(slots=4, threads=1)
    assert looks.seen.count(one_thread) == 1
    assert trials.trials[one_thread].fate == (
        "dropped after the first look at threads: 61.7 tokens/s where 111.1 are had"
    )


def test_a_gain_within_noise_leaves_the_setting_as_it_was() -> None:
    def flat(setting: Setting) -> Measured:
        return found(40 * (1.04 if setting.kv == "q8_0" else 1.0))

    trials = search(Looks(flat))
    choice = trials.run(USUAL)
    assert choice.setting == USUAL
    assert trials.trials[USUAL.with_("kv", "q8_0")].fate == "not better than kv=f16 by more than noise"


def test_a_setting_that_won_its_first_look_alone_is_not_taken() -> None:
    looks: list[Setting] = []

    def machine(setting: Setting) -> Measured:
        looks.append(setting)
        lucky = setting.batch == 128 and looks.count(setting) == 1
        return found(80 if lucky else 39 if setting.batch == 128 else 40 if setting == USUAL else 20)

    trials = search(Looks(machine))
    assert trials.run(USUAL).setting == USUAL
    assert looks.count(USUAL.with_("batch", 128)) == 2


def test_slots_are_raced_again_once_a_step_has_become_cheaper() -> None:
    def machine(setting: Setting) -> Measured:
        each = (30 if setting.speculation == "ngram-simple" else 20) / setting.slots**0.5
        return found(setting.slots * each, each)

    assert search(Looks(machine), Slo(first_token=2, tokens=9)).run(USUAL).setting.slots == 8


def test_what_does_not_run_is_dropped_with_the_reason_and_the_rest_goes_on() -> None:
    def machine(setting: Setting) -> Measured:
        if setting.slots > 4:
            raise OllamaError(500, "out of memory")
        return modelled(setting)

    trials = search(Looks(machine))
    assert trials.run(USUAL).setting.slots == 4
    assert trials.trials[replace(USUAL, slots=8)].fate == "doesn't run: out of memory"


def test_a_first_setting_that_does_not_run_is_a_problem() -> None:
    def machine(setting: Setting) -> Measured:
        raise Problem("no space")

    with pytest.raises(Problem, match=r"slots=4, threads=2.*no space"):
        search(Looks(machine)).run(USUAL)


def test_where_nothing_meets_the_slo_the_choice_is_what_comes_closest() -> None:
    choice = search(Looks(modelled), Slo(first_token=2, tokens=1000)).run(USUAL)
    assert (choice.setting.slots, choice.setting.threads, choice.fate) == (2, 2, "the closest")


def test_a_quantised_cache_is_never_tried_without_flash_attention() -> None:
    looks = Looks(modelled)
    search(looks).run(USUAL)
    measure_grid(looks, CHOICES, lambda line: None)
    assert not [setting for setting in looks.seen if setting.flash == "off" and setting.kv != "f16"]


# The grid


def test_the_grids_best_and_the_choice_are_compared_by_new_looks_in_turn() -> None:
    lucky = Setting(slots=8, threads=2)
    calls: list[Setting] = []

    def machine(setting: Setting) -> Measured:
        calls.append(setting)
        first = calls.count(setting) == 1
        return found(100 if setting == lucky and first else 50 if setting == lucky else 48)

    figures = measure_grid(
        machine,
        {**CHOICES, **{k: v[:1] for k, v in CHOICES.items() if k not in ("slots", "threads")}},
        lambda line: None,
    )
    grid = compare(machine, SLO, figures, USUAL)
    assert grid.best == lucky
    assert (grid.choice_again.rate, grid.best_again.rate) == (48, 50)
    assert calls[-6:] == [USUAL, lucky] * 3


def test_a_grid_of_which_nothing_runs_is_a_problem() -> None:
    def machine(setting: Setting) -> Measured:
        raise OllamaError(500, "no")

    with pytest.raises(Problem, match="no setting of the grid runs"):
        measure_grid(machine, CHOICES, lambda line: None)


# Callers and prompts


def test_callers_ask_all_the_time_and_their_figures_follow() -> None:
    def ask(text: str, tokens: int) -> Iterator[None]:
        time.sleep(0.05)
        for _ in range(4):
            yield
            time.sleep(0.01)

    callers = Callers(ask, 3, 0.5)
    callers.run()
    assert 0.5 <= callers.ended - callers.began < 2
    assert 3 <= callers.rate <= 1.3 * 3 * 4 / 0.09  # the first and the last answer are counted in part
    assert 10 <= callers.slowest <= 100
    assert min(callers.first_tokens) >= 0.05
    begun = [answer for own in callers.answers for answer in own if answer.asked >= callers.began]
    assert len(callers.first_tokens) == len(begun) >= 3


def test_a_look_lasts_until_every_caller_has_enough_tokens_to_tell() -> None:
    def ask(text: str, tokens: int) -> Iterator[None]:
        for _ in range(tokens):
            time.sleep(0.003)
            yield

    callers = Callers(ask, 2, 0.1)
    callers.run()
    counted = [[at for answer in own for at in answer.tokens if at >= callers.began] for own in callers.answers]
    assert min(map(len, counted)) >= ENOUGH
    assert len(callers.first_tokens) >= BEGUN


def test_what_is_read_at_the_start_is_not_counted_and_first_answers_end_one_after_the_other() -> None:
    lengths: list[int] = []

    def ask(text: str, tokens: int) -> Iterator[None]:
        lengths.append(tokens)
        time.sleep(0.3 if len(lengths) <= 4 else 0.001)
        for _ in range(tokens):
            time.sleep(0.002)
            yield

    callers = Callers(ask, 4, 0.2)
    callers.run()
    assert lengths[:4] == [TOKENS // 4, TOKENS // 2, TOKENS * 3 // 4, TOKENS]
    assert set(lengths[4:]) == {TOKENS}
    assert max(callers.first_tokens) < 0.3
    assert callers.rate > 4 * 0.5 / 0.025, "0.3 s without a token would have halved it"


def test_a_setting_too_slow_for_a_look_is_told_by_what_there_is() -> None:
    def ask(text: str, tokens: int) -> Iterator[None]:
        time.sleep(0.05)
        for _ in range(tokens):
            yield
            time.sleep(0.04)

    callers = Callers(ask, 2, 0.02)
    callers.run()
    assert callers.ended - callers.began < 1
    assert min(callers.first_tokens) >= 0.05 and len(callers.first_tokens) == 2
    assert 5 < callers.slowest <= 25


def test_a_model_that_says_nothing_ends_the_look_all_the_same() -> None:
    def ask(text: str, tokens: int) -> Iterator[None]:
        time.sleep(0.005)
        yield from ()

    callers = Callers(ask, 2, 0.02)
    callers.run()
    assert (callers.rate, callers.slowest, callers.first_tokens) == (0, 0, ())


def test_a_caller_that_fails_ends_the_look_for_all() -> None:
    failed = threading.Event()

    def ask(text: str, tokens: int) -> Iterator[None]:
        if text.startswith("2."):
            failed.set()
            raise OllamaError(500, "the model died")
        while True:
            assert failed.wait(10)
            time.sleep(0.01)
            yield

    began = time.monotonic()
    with pytest.raises(OllamaError, match="the model died"):
        Callers(ask, 3, 30).run()
    assert time.monotonic() - began < 10


def test_prompts_are_the_same_each_time_and_none_starts_as_another() -> None:
    assert [prompt(number) for number in range(1, 40)] == [prompt(number) for number in range(1, 40)]
    assert len({prompt(number)[:4] for number in range(1, 40)}) == 39
    texts = [prompt(number) for number in range(1, 401)]
    assert sum("Copy this text" in text for text in texts) == sum("Sum up" in text for text in texts) == 100
    assert {len(text.split()) > 50 for text in texts if "this text" in text} == {True}


# The report


def report(choice: Trial, **more: Any) -> str:
    values: dict[str, Any] = {
        "command": "python -m tuning --model small",
        "machine": {"cpus": 2, "cpu": "Some CPU", "machine": "x86_64", "memory_gib": 8.0},
        "ollama": "0.32.15",
        "model": "small",
        "context_length": 2048,
        "slo": SLO,
        "trials": [choice],
        "choice": choice,
        "grid": None,
        "seconds": 5.0,
        "took": 100.0,
        "stage": LOCAL,
    }
    return Report(**values | more).markdown()


def test_the_report_ends_with_the_line_for_the_stage_and_its_evidence() -> None:
    lost = Trial(Setting(slots=16, threads=2), fate="doesn't run: out of | memory")
    text = report(
        choice := Trial(replace(USUAL, slots=8), [found(92.4), found(92.6)], "the choice"), trials=[choice, lost]
    )
    assert "Some CPU (x86_64), 2 CPUs, 8.0 GiB; Ollama 0.32.15" in text
    assert "| 8 | 2 | – | on | f16 | none | 2 | 92.5 | 10.0 | 1.00 | 20.0 | 300 | 0% | the choice |" in text
    assert "| 16 | 2 | – | on | f16 | none | 0 | – | – | – | – | – | – | doesn't run: out of / memory |" in text
    assert text.endswith(
        "```\nslots=8, cpus=2, requests_per_replica=6\n```\n\n92.5 tokens/s in all, its slowest caller 10.0 tokens/s "
        "of 5, p95 first token 1.00 s of 2 s; 2 looks."
    )
    assert "Something else used" not in text


def test_where_no_setting_meets_the_slo_the_report_says_what_is_missing_and_no_line() -> None:
    text = report(Trial(USUAL, [found(40, 4.0, 2.5, others=0.3)]))
    assert "No setting meets the SLO. Closest comes slots=4, threads=2" in text
    assert "4.0 tokens/s of 5 (20% too few), p95 first token 2.50 s of 2 s (25% too late)" in text
    assert "cpus=" not in text
    assert "Something else used up to 30% of the CPUs" in text


def test_the_report_compares_the_choice_with_the_grids_best() -> None:
    best = replace(USUAL, slots=8)
    grid = compare(lambda setting: found(50 if setting == best else 47), SLO, {best: found(50)}, USUAL)
    assert "the choice gave 47.0 tokens/s and the grid's best 50.0: the choice is at 94%" in report(
        Trial(USUAL, [found()]), grid=grid
    )


def test_the_line_is_one_that_a_stage_takes() -> None:
    assert replace(LOCAL, **fields(replace(USUAL, slots=1))).requests_per_replica == 1
    assert line(replace(USUAL, slots=4)) == "slots=4, cpus=2, requests_per_replica=3"
    assert list(outside(USUAL.with_("kv", "q8_0").with_("speculation", "ngram-mod"), DEV)) == []
    quantised = line(USUAL.with_("kv", "q8_0"))
    assert quantised == 'slots=4, cpus=2, requests_per_replica=3, kv_type="q8_0"'
    assert eval(f"replace(LOCAL, {quantised})", {"replace": replace, "LOCAL": LOCAL}).kv_type == "q8_0"


def test_a_stages_speculation_reaches_llama_server() -> None:
    line_of = line(USUAL.with_("speculation", "ngram-mod"))
    assert line_of == 'slots=4, cpus=2, requests_per_replica=3, speculation="ngram-mod"'
    assert ollama_variables(replace(DEV, speculation="ngram-mod"))["LLAMA_ARG_SPEC_TYPE"] == "ngram-mod"
    assert "LLAMA_ARG_SPEC_TYPE" not in ollama_variables(DEV)
    with pytest.raises(ConfigError, match="speculation=psychic is none of none, ngram-simple"):
        replace(DEV, speculation="psychic")


def test_a_stages_kv_type_reaches_ollama_and_its_memory_limit() -> None:
    stage = replace(DEV, kv_type="q8_0")
    assert ollama_variables(stage)["OLLAMA_KV_CACHE_TYPE"] == "q8_0"
    assert "OLLAMA_KV_CACHE_TYPE" not in ollama_variables(DEV)
    context = DEV.slots * DEV.context_length * DEV.model.kv_kib_per_token / 1024
    assert DEV.ollama_mib - stage.ollama_mib == int(context * 15 / 32)
    with pytest.raises(ConfigError, match="kv_type=q2 is none of f16, q8_0, q4_0"):
        replace(DEV, kv_type="q2")


def test_what_a_stage_does_not_say_or_would_clash_with_is_said() -> None:
    told = list(outside(Setting(slots=64, threads=2, kv="q4_0", batch=128), DEV))
    assert "no field for batch=128:" in told[0]
    assert "a c7i.xlarge has" in told[1]
    assert evidence(found(), SLO).startswith("40.0 tokens/s in all")


# The command line


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


def test_the_real_model_is_tuned_on_the_real_ollama(capsys: pytest.CaptureFixture[str]) -> None:
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


def test_every_knob_that_can_be_tried_is_an_option() -> None:
    parser = Parser()
    add_options(parser)
    asked = parser.parse_args([*GOOD])
    assert all(hasattr(asked, knob) for knob in KNOBS)
