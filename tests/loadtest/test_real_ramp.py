"""The ramp that has a real model, here with an engine that sleeps; and what its report makes of figures."""

import json
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from config import LOCAL
from launcher.console import Problem
from loadtest.comparison.report import add_ratios
from loadtest.experiments import main
from loadtest.loads import Endpoint
from loadtest.real_ramp import calibration, experiment
from loadtest.real_ramp.calibration import Calibration, calibrate
from loadtest.real_ramp.report import ratios, targets, together
from loadtest.real_ramp.systems import System, ollama
from loadtest.real_ramp.watch import generated, memory_drift, memory_mib, watched
from testbed import ROOT
from testbed.tools import missing
from testbed.waiting import eventually
from tests.support.answers import BUSY, answering

SYSTEMS = ["naive", "ollama", "sluice"]


def ramp_run(
    system: str, number: int = 1, *, took: float = 4.0, answered: int = 40, mib: float = 600
) -> dict[str, Any]:
    """Return a run of 40 questions asked in 100 s, the first of which were answered, each after so many seconds."""
    requests = [[2.0 * each, took, "answered" if each < answered else "timeout", 1] for each in range(40)]
    counts = {"requests": 40, "answered": answered, "answered_after_retry": 0, "attempts": 44, "refusals": 1,
              "refused": 0, "timeout": 40 - answered, "error": 0}  # fmt: skip
    report = {"valid": True, "invalid_because": [], "slo_s": 60.0, "seconds": 100.0, "counts": counts,
              "throughput": answered / 100, "goodput": answered / 100, "requests": requests,
              "latency_s": {"p50": [took] * 3, "p95": [took] * 3}}  # fmt: skip
    memory = [[float(at), mib, 80.0] for at in range(100)]
    return {"system": system, "round": number, "report": report, "memory": memory,
            "engine": {"answers": answered + 1, "tokens": 96, "loads": 0}}  # fmt: skip


def pooled(**systems: list[dict[str, Any]]) -> dict[str, Any]:
    found = {name: together(runs) for name, runs in systems.items()}
    add_ratios(found, ratios)
    return found


def test_each_round_begins_with_another_system_and_has_all_of_them() -> None:
    found = experiment.schedule(SYSTEMS, 4)
    assert [name for _, name in found[::3]] == ["naive", "ollama", "sluice", "naive"]
    for number in range(4):
        assert sorted(found[3 * number : 3 * number + 3]) == [(number + 1, name) for name in SYSTEMS]


def test_the_expected_time_has_the_retries_after_the_naive_system_s_ramp() -> None:
    order = experiment.schedule(SYSTEMS, 2)
    without = experiment.expected_minutes([each for each in order if each[1] != "naive"], 105, 1 / 3)
    assert without == pytest.approx(4 * (105 + 15) / 60)
    assert experiment.expected_minutes(order, 105, 1 / 3) == pytest.approx(without + 2 * (105 + 15 + 3 * 30) / 60)


def test_sluice_s_queue_ends_before_the_clients_patience_unless_the_caller_says_when(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("QUEUE_TIMEOUT", raising=False)
    assert experiment.deadlines(0.3) == {"QUEUE_TIMEOUT": "16.5"}
    monkeypatch.setenv("QUEUE_TIMEOUT", "7")
    assert experiment.deadlines(0.3) == {"QUEUE_TIMEOUT": "7"}


def test_ten_users_of_the_naive_system_wait_as_long_as_a_client_will() -> None:
    found = Calibration(answers=20, seconds=30.0)
    assert found.seconds_an_answer == 1.5
    assert 90 * found.time_scale == pytest.approx(10 * 1.5)


def test_the_calibration_counts_the_answers_of_its_time() -> None:
    with answering() as target:
        began = time.monotonic()
        found = calibrate(Endpoint(target.url, "naive"), seconds=0.3)
        assert 0.3 <= found.seconds <= time.monotonic() - began
    assert found.answers == target.paths["/generate"] - 1 >= 9  # the one that loads the model doesn't count


def test_a_system_that_refuses_while_nothing_is_asked_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "prompt", lambda number: f"{number}. Why?")
    with answering((BUSY,)) as target, pytest.raises(Problem, match="status 503"):
        calibrate(Endpoint(target.url, "naive"), seconds=0.1)
    with pytest.raises(Problem, match="doesn't answer"):
        calibrate(Endpoint("http://127.0.0.1:1", "naive"), seconds=0.1)


def test_rounds_are_counted_together_with_what_each_of_them_gave() -> None:
    found = together([ramp_run("naive", 1, answered=20), ramp_run("naive", 2, answered=40, mib=700)])
    assert (found["counts"]["requests"], found["answered_share"]) == (80, 0.75)
    assert found["lost_attempts"] == 88 - 2 - 60
    assert [sum(stretches) * 5 for stretches in found["stretches"]] == pytest.approx([20, 40])
    assert found["memory_max_mib"] == 700
    assert [each["verdict"] for each in found["memory_drift"]] == ["same", "same"]


def test_targets_are_kept_or_not_by_the_systems_own_figures() -> None:
    slow = [ramp_run("naive", took=20.0, answered=20)]
    kept = targets(pooled(naive=slow, sluice=[ramp_run("sluice", took=8.0)]), 1000, 600)
    assert [(each["value"], each["passed"]) for each in kept] == [
        (1.0, True),
        (2.0, True),
        (0.4, True),
        (0.6, True),
        (0, True),
        (1.0, True),
    ]
    worse = ramp_run("sluice", took=11.0, answered=30)
    worse["engine"]["loads"] = 2
    worse["memory"] = [[float(at), 600.0 + 4 * at, 80.0] for at in range(100)]
    broken = targets(pooled(naive=slow, sluice=[worse]), 1000, 600)
    assert not any(each["passed"] for each in broken)
    assert [each["value"] for each in broken[:4]] == [0.75, 1.5, 0.55, 0.996]
    assert [each["what"] for each in targets(pooled(sluice=[worse]), 1000, 599)] == [
        each["what"] for each in broken if "naive" not in each["what"] and "third" not in each["what"]
    ]


def test_an_invalid_run_keeps_no_target_and_without_sluice_there_is_none() -> None:
    invalid = ramp_run("naive", took=20.0, answered=20)
    invalid["report"]["valid"] = False
    systems = pooled(naive=[invalid], sluice=[ramp_run("sluice")])
    assert not any(each["passed"] for each in targets(systems, 1000, 600))
    assert targets(pooled(naive=[invalid]), 1000, 600) == []


def test_who_is_never_answered_waits_until_giving_up() -> None:
    naive = ramp_run("naive", took=4.0, answered=30)
    naive["report"]["requests"] = [
        each if each[2] == "answered" else [each[0], 40.0, *each[2:]] for each in naive["report"]["requests"]
    ]
    systems = pooled(naive=[naive], sluice=[ramp_run("sluice", took=8.0)])
    assert systems["naive"]["latency_s"]["p95"][0] == 4.0
    assert systems["naive"]["wait_s"]["p95"][0] == 40.0
    ratio, low, high = systems["naive"]["sluice_ratio"]["wait_p95"]
    assert low <= ratio == 0.2 <= high


def test_the_interval_of_the_ratio_holds_the_ratio() -> None:
    systems = pooled(naive=[ramp_run("naive", answered=20)] * 3, sluice=[ramp_run("sluice")] * 3)
    ratio, low, high = systems["naive"]["sluice_ratio"]["throughput"]
    assert 1 < low < ratio == 2 < high < 5


def test_memory_that_grows_is_told_from_memory_that_does_not() -> None:
    assert memory_drift([[at, 500 + at, 0] for at in range(300)], 300).verdict == "worse"
    assert memory_drift([[at, 500 + at % 7, 0] for at in range(300)], 300).verdict == "same"
    assert memory_drift([[at, 500, 0] for at in range(5)], 5) is None


def test_the_memory_is_that_of_the_process_and_of_what_it_started() -> None:
    samples: list[Any] = []
    system = System(Endpoint("http://127.0.0.1:1", "naive"), (os.getpid(), 2**22 + 1), Path("none"))
    with watched(system, samples, every=0.05):
        eventually(lambda: len(samples) >= 2)
    assert all(engine == 0 and others > 20 for _, engine, others in samples)
    assert memory_mib([2**22 + 1]) == (0, 0)


def test_answers_are_counted_by_the_engine_s_own_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    line = "slot print_timing: id 0 | {} time = 480.55 ms / {} tokens ( 36.97 ms per token)\n"
    log.write_text(line.format("       eval", "   14"))
    since = log.stat().st_size
    with log.open("a") as file:
        for name, count in (("prompt eval", 179), ("       eval", 96), ("      total", 275), ("       eval", 96)):
            file.write(line.format(name, count))
        file.write(
            'time=2026-11-26T18:29:11.510Z level=INFO source=llama_server.go:433 msg="starting llama-server" cmd='
        )
    assert generated(log, since) == {"answers": 2, "tokens": 96, "loads": 1}
    assert generated(log, log.stat().st_size) == {"answers": 0, "tokens": None, "loads": 0}


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--seconds", "9"], ["--seconds", "nan"], ["--systems", "x"]])
def test_an_option_that_is_out_of_range_ends_it_at_once(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["real-ramp", *arguments])
    assert f"sluice: {arguments[0]}: {arguments[1]!r} is" in capsys.readouterr().err


def test_settings_that_are_not_the_defaults_are_in_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("OLLAMA_", "LLAMA_ARG_"))]:
        monkeypatch.delenv(name)
    assert experiment.settings(os.environ)["changed"] == {}
    assert experiment.settings(os.environ)["ollama_limit_mib"] == LOCAL.ollama_mib
    monkeypatch.setenv("SLOTS", "8")
    monkeypatch.setenv("LLAMA_ARG_BATCH", "256")
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    found = experiment.settings(os.environ)
    assert found["settings"]["SLOTS"] == 8
    assert found["changed"] == {"LLAMA_ARG_BATCH": "256", "SLOTS": "8"}
    assert found["ollama_limit_mib"] > LOCAL.ollama_mib


@pytest.fixture
def engine(programs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the engine that sleeps first on PATH, as `ollama`; give Sluice a cache of its own."""
    program = tmp_path / "bin/ollama"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncd '{ROOT}' && exec '{sys.executable}' -m tests.support.ramp_engine \"$@\"\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLUICE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ENGINE_SECONDS", "0.2")
    monkeypatch.setenv("ENGINE_VARIATION", "0")
    monkeypatch.setenv("OLLAMA_NUM_PARALLEL", "")


def test_ollama_by_its_defaults_has_none_of_the_caller_s_settings(
    engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_NUM_PARALLEL", "7")
    monkeypatch.setenv("LLAMA_ARG_BATCH", "256")
    with ollama(tmp_path, tmp_path / "store") as system:
        environ = Path(f"/proc/{system.roots[0]}/environ").read_text().split("\0")
    set_here = {line.partition("=")[0] for line in environ if line.startswith(("OLLAMA_", "LLAMA_ARG_"))}
    assert set_here == {"OLLAMA_HOST", "OLLAMA_MODELS", "OLLAMA_NOPRUNE"}
    assert f"OLLAMA_MODELS={tmp_path / 'store'}" in environ


def test_a_program_that_ends_at_its_start_is_named_with_its_last_words(engine: None, tmp_path: Path) -> None:
    (tmp_path / "bin/ollama").write_text("#!/bin/sh\necho no such CPU; exit 1\n")
    with pytest.raises(Problem, match=r"ollama serve.*no such CPU"), ollama(tmp_path, tmp_path):
        pass


@pytest.mark.usefixtures("network")
def test_the_ramp_tells_a_queue_with_slots_from_systems_without(engine: None, tmp_path: Path) -> None:
    if not shutil.which(os.environ.get("UV", "uv")):
        missing("uv is missing: run make test")
    arguments = ["--rounds", "1", "--seconds", "10", "--calibration", "1", "--out", str(tmp_path)]
    main(["real-ramp", *arguments])
    folder = tmp_path / "real-ramp"
    report, summary = json.loads((folder / "report.json").read_text()), (folder / "summary.md").read_text()
    systems = report["systems"]
    assert list(systems) == SYSTEMS
    # An answer takes the engine 0.2 s; the naive system has it answer one at a time, Sluice four.
    assert 0.2 <= report["calibration"]["seconds"] / report["calibration"]["answers"] < 0.5
    assert systems["sluice"]["answered_share"] == 1
    assert systems["sluice"]["throughput"] > 1.2 * systems["naive"]["throughput"]
    assert systems["sluice"]["lost_attempts"] == 0
    assert systems["naive"]["engine"][0]["answers"] >= systems["naive"]["counts"]["answered"]  # some of them had left
    assert all(run["memory_max_mib"] == 0 and len(run["memory"][0]) > 5 for run in systems.values())
    for text in ("Sluice’s answers ÷ these", "of 96 tokens", "Simulated: nothing", "`SLOTS=4`", "How it was scaled"):
        assert text in summary
    assert sorted(file.name for file in folder.iterdir()) == [
        "latency.svg", "memory.svg", "report.html", "report.json", "summary.md"
    ]  # fmt: skip
    assert not re.search(r"<(script|link|img)|(src|href)=.http", (folder / "report.html").read_text())
