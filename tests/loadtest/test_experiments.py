"""What the reports of the experiments say, and where."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cdk8s_manifests.gateway_settings import back_settings
from config import LOCAL, Stage
from loadtest.balancing.report import add_ratios, plot, table, targets
from loadtest.balancing.systems import KILLED, LEAST, RANDOM, SHARED
from loadtest.comparison import report as comparison_report
from loadtest.experiments import COMMANDS, main
from loadtest.facts import facts, machine_busy
from loadtest.on_cluster.stages import SECONDS, experiment_stage
from loadtest.reporting.document import Block, Plot, Table
from loadtest.reporting.figures import svg
from loadtest.reporting.folder import write
from loadtest.reporting.target import targets_table
from testbed.stand_in.timed import LONGEST


def load_run(answered: int = 100, throughput: float = 1.0, p95: float = 40.0) -> dict[str, Any]:
    """Return what the comparison reads of a report of loadtest's; the rest of 100 questions timed out."""
    lost = 100 - answered
    requests = [[number, 10.0, "answered" if number < answered else "timeout", 1] for number in range(100)]
    counts = {"requests": 100, "answered_after_retry": 3, "timeout": lost, "error": 0, "attempts": 104,
              "refused": 0, "answered": answered}  # fmt: skip
    times = {name: [value, value - 1, value + 1] for name, value in (("p50", 20.0), ("p95", p95))}
    return {"valid": True, "invalid_because": [], "slo_s": 60.0, "goodput": throughput / 2,
            "answered_share": answered / 100, "throughput": throughput, "latency_s": times, "counts": counts,
            "requests": requests}  # fmt: skip


def runs(sluice: dict[str, Any]) -> dict[str, Any]:
    found = {"naive": load_run(90, 1.0, 80.0), "ollama-helm": load_run(95, 1.0, 70.0), "sluice": sluice}
    comparison_report.add_ratios(found, comparison_report.ratios)
    return found


def test_the_comparison_s_targets_are_kept_or_not_by_its_own_figures() -> None:
    passed = comparison_report.targets(4, runs(load_run(100, 1.2, 40.0)))
    assert [each["passed"] for each in passed] == [True] * 5
    failed = comparison_report.targets(4, runs(load_run(99, 1.05, 60.0)))
    assert [each["passed"] for each in failed] == [False] * 5
    assert [each["value"] for each in failed] == [0.99, 1.05, 0.75, 1.05, 0.857]


def test_other_numbers_of_replicas_have_no_targets() -> None:
    assert comparison_report.targets(3, runs(load_run())) == []


def test_the_comparison_s_table_has_every_system_and_the_ratios() -> None:
    measured = runs(load_run(100, 1.2, 40.0))
    text = comparison_report.table(measured, copies=1).body()
    assert "90.0 % of 100 | 95.0 % of 100 | 100.0 % of 100" in text
    assert "60.0 | 60.0 | 72.0" in text
    assert "1.20 × | 1.20 × | " in text
    assert "0.50 × (1.00 to 1.00) | 0.57 × (1.00 to 1.00)" in text
    assert [row[-1] for row in targets_table(comparison_report.targets(4, measured)).rows[1:]] == ["passed"] * 5


def test_an_invalid_run_reaches_no_target() -> None:
    invalid = runs(load_run(100, 1.2, 40.0) | {"valid": False})
    assert not any(each["passed"] for each in comparison_report.targets(4, invalid))


def test_copies_are_counted_together() -> None:
    slow = load_run(80, 0.5, 90.0)
    slow["requests"] = [[started, 30.0, outcome, tries] for started, _, outcome, tries in slow["requests"]]
    both = comparison_report.pool([load_run(100, 1.0, 40.0), slow])
    assert (both["counts"]["requests"], both["counts"]["timeout"], both["answered_share"]) == (200, 20, 0.9)
    assert (both["throughput"], both["goodput"]) == (0.75, 0.375)
    assert both["latency_s"]["p95"][0] == 30.0
    assert both["latency_s"]["mean"] == pytest.approx((100 * 10 + 80 * 30) / 180, abs=0.001)
    assert [copy["p95_s"] for copy in both["copies"]] == [40.0, 90.0]


def balancing_run(system: str, p95: float, answered: float = 1.0) -> dict[str, Any]:
    times = {name: [value, value, value] for name, value in (("p50", 10.0), ("p95", p95))}
    return {"system": system, "replicas": 4, "counts": {"requests": 2}, "answered_share": answered, "latency_s": times,
            "answered_after_retry": 0, "throughput": 0.5, "waiting_s": 90.0, "idle_while_waiting_s": 30.0,
            "lost_pod_seconds": 44.0, "requests": [[0.0, 9.0, "answered", 1], [1.0, 12.0, "answered", 1]]}  # fmt: skip


@pytest.mark.parametrize(
    ("least", "killed", "passed"),
    [
        (40.0, 1.0, [True, True, True, True]),
        (28.0, 1.0, [True, True, True, True]),  # within what chance explains
        (20.0, 1.0, [True, True, False, True]),
        (40.0, 0.99, [True, True, True, False]),
    ],
)
def test_a_way_that_is_clearly_better_and_a_lost_question_miss_a_target(
    least: float, killed: float, passed: list[bool]
) -> None:
    others = [balancing_run(RANDOM, 60.0), balancing_run(LEAST, least), balancing_run(KILLED, 35.0, killed)]
    measured = [balancing_run(SHARED, 30.0), *others]
    add_ratios(measured)
    found = list(targets(measured))
    assert [each["passed"] for each in found] == passed
    assert found[2]["what"] == "p95 of the shared queue compared with least outstanding, no queue, 4 pods"
    assert found[3]["what"] == "answered by shared queue, HAProxies killed, 4 pods"


def test_the_balancing_table_compares_the_shared_queue_with_each() -> None:
    measured = [balancing_run(RANDOM, 60.0), balancing_run(SHARED, 30.0)]
    add_ratios(measured)
    rows = table("4 pods", measured).rows
    assert ["shared queue’s p95 ÷ this", "0.50 ×", "1.00 ×"] in rows
    assert ["idle meanwhile, s", "30.0", "30.0"] in rows


def drawn() -> str:
    return svg(plot({"4 pods": [balancing_run(SHARED, 30.0)]}))


def test_a_folder_says_how_it_was_made_and_needs_nothing_else(tmp_path: Path) -> None:
    report = facts("trial", ["balancing", "--time-scale", "0.5"], scale=0.5)
    with machine_busy(report):
        pass
    blocks: list[Block] = ["Once & **twice**.", Table([["", "a"], ["b", "<c>"]]), Plot(drawn(), file="shares")]
    folder = write(report, blocks, tmp_path)
    assert sorted(file.name for file in folder.iterdir()) == ["report.html", "report.json", "shares.svg", "summary.md"]
    summary, html = (folder / "summary.md").read_text(), (folder / "report.html").read_text()
    command = "python -m loadtest.experiments balancing --time-scale 0.5"
    for text in (command, "Simulated: the engine", "sleeps 6 s", "Real: "):
        assert text in summary
        assert text in html
    assert "Once &amp; <strong>twice</strong>." in html
    assert "<td>b<td>&lt;c&gt;" in html
    assert "| b | <c> |" in summary
    assert not re.search(r"<(script|link|img)|(src|href)=.http", html)
    assert 0 <= json.loads((folder / "report.json").read_text())["cpu_busy"] <= 1


def test_a_plot_is_the_same_text_every_time() -> None:
    assert drawn() == drawn()


def test_the_stage_differs_from_local_in_what_it_says_and_its_deadlines_fit_the_engine() -> None:
    stage = experiment_stage("here", replicas=4)
    assert isinstance(stage, Stage)
    assert stage.generation_timeout > LONGEST * SECONDS
    assert stage.queue_timeout + LONGEST * SECONDS < 92  # a client waits 90 s
    assert back_settings(stage)["SLOTS"] == "1"
    same = {"registry", "proxy_image", "load_balancer", "proxy_replicas", "prestop", "cpus", "autoscaling"}
    assert same < {field.name for field in fields(Stage) if getattr(stage, field.name) == getattr(LOCAL, field.name)}


@pytest.mark.parametrize("scale", [0.1, 0.5, 1])
def test_every_time_scale_makes_a_stage_that_holds_together(scale: float) -> None:
    assert experiment_stage("here", replicas=10, scale=scale).generation_timeout >= LONGEST * SECONDS * scale


def test_an_unknown_experiment_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["nothing"])
    said = f"invalid choice: 'nothing' (choose from {', '.join(map(repr, COMMANDS))})"
    assert capsys.readouterr().err == f"sluice: COMMAND: {said}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_experiment_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert f"python -m loadtest.experiments {command}" in capsys.readouterr().out
