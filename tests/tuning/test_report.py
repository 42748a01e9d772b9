from dataclasses import replace
from typing import Any

import pytest

from cdk8s_manifests.gateway_settings import ollama_variables
from config import DEV, LOCAL, ConfigError
from tests.support.measured import SLO, USUAL, found
from tuning.grid import compare
from tuning.options import TuningRequest
from tuning.report import TuningReport
from tuning.search import Trial
from tuning.setting import Setting
from tuning.stage_line import evidence, fields, line, outside


def report(choice: Trial, **more: Any) -> str:
    asked = TuningRequest(
        model="small", slo=SLO, stage=LOCAL, start=choice.setting, choices={}, seconds=5.0, grid=False
    )
    values: dict[str, Any] = {
        "asked": asked,
        "command": "python -m tuning --model small",
        "machine": {"cpus": 2, "cpu": "Some CPU", "machine": "x86_64", "memory_gib": 8.0},
        "ollama": "0.32.15",
        "trials": [choice],
        "choice": choice,
        "grid": None,
        "took": 100.0,
    }
    return TuningReport(**values | more).markdown()


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
