"""Who used what, and what it cost: all rows together are what the pods' nodes cost."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from config import DEV
from cost.bill import IDLE, Usage, main, parse, rows, table, usd_per_pod_hour, usd_per_pod_hours
from cost.prices import Prices
from tests.support.several_models import TWO_NODES

PRICES = Prices("eu-central-1")
POD_HOUR = usd_per_pod_hour(DEV, PRICES)
STAGE = ["--stage", "dev", "--region", "eu-central-1"]


def at(minute: int, message: str, **fields: Any) -> str:
    return json.dumps({"time": f"2026-11-27T10:{minute:02}:00.000+00:00", "message": message, **fields})


def used(minute: int, key: str | None, seconds: float, model: str = "small", **fields: Any) -> str:
    named = {"key": key} if key else {}
    return at(minute, "request", model=model, slot_ms=seconds * 1000, **named, **fields)


def offered(minute: int, model: str = "small", slots: int = 4) -> str:
    return at(minute, "capacity", model=model, slots=slots, seconds=60.0)


def bill(lines: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    file = tmp_path / "log"
    file.write_text("\n".join(lines))
    assert main([str(file), *STAGE, "--json", *options]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def test_keys_and_idle_share_what_the_pods_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [offered(minute) for minute in range(60)]
    lines += [used(5, "alice", 3600, prompt_tokens=10, completion_tokens=20), used(6, "alice", 0)]
    lines += [used(7, "bob", 7200, prompt_tokens=1)]
    bob, alice, idle = bill(lines, tmp_path, capsys)
    assert (alice["key"], alice["requests"], alice["prompt_tokens"], alice["completion_tokens"]) == ("alice", 2, 10, 20)
    assert (bob["slot_seconds"], alice["slot_seconds"], idle["slot_seconds"]) == (7200, 3600, 3600)
    assert [row["usd"] for row in (bob, alice, idle)] == pytest.approx([POD_HOUR / 2, POD_HOUR / 4, POD_HOUR / 4])
    assert idle["key"] == IDLE


def test_a_slot_costs_by_its_models_pods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [offered(1, "chat", slots=4), offered(1, "embed", slots=1)]
    lines += [used(1, "alice", 60, "chat"), used(1, "alice", 60, "embed")]
    by_model = {row["model"]: row for row in bill(lines, tmp_path, capsys) if row["key"] == "alice"}
    assert by_model["embed"]["usd"] == pytest.approx(4 * by_model["chat"]["usd"])
    assert by_model["embed"]["usd"] == pytest.approx(POD_HOUR / 60)


def test_a_pod_costs_by_the_nodes_of_its_model() -> None:
    hours = usd_per_pod_hours(TWO_NODES, PRICES)
    large, small = TWO_NODES.each_model
    assert hours == {"moondream": usd_per_pod_hour(large, PRICES), "all-minilm": usd_per_pod_hour(small, PRICES)}
    assert hours["all-minilm"] < hours["moondream"] / 3  # two of them on a node of half the price
    assert hours["of-last-month"] == hours["moondream"]
    usage = Usage()
    for model in hours:
        usage.add(json.loads(offered(1, model)))
        usage.add(json.loads(used(1, "alice", 240, model)))
    usd = {row.model: row.usd for row in rows(usage, hours) if row.key == "alice"}
    assert usd == pytest.approx({model: hour / 60 for model, hour in hours.items()})
    text = table(list(rows(usage, hours)), usage, hours)
    for model, hour in hours.items():
        assert f"0.02 hours of pods of {model} at {hour:.4f} dollars an hour: their nodes" in text


def test_what_held_no_slot_costs_nothing_and_without_keys_all_are_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = at(1, "request", status=503, error="saturated")
    rows = bill([offered(1), used(1, None, 30), refused], tmp_path, capsys)
    assert [(row["key"], row["requests"]) for row in rows] == [("(no key)", 1), (IDLE, 0)]


def test_only_lines_of_the_time_asked_for_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [text for minute in range(1, 10) for text in (offered(minute), used(minute, "alice", 6))]
    [alice, idle] = bill(lines, tmp_path, capsys, "--from", "2026-11-27T10:03", "--to", "2026-11-27T11:05+01:00")
    assert (alice["requests"], alice["slot_seconds"] + idle["slot_seconds"]) == (2, 480)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda line: f"[pod/sluice-7d/gateway] {line}",
        lambda line: f"2026-11-27T10:00:00+00:00 sluice-7d {line}\n",
        lambda line: json.dumps({"time": "now", "log": line, "kubernetes": {"pod_name": "sluice-7d"}}),
    ],
    ids=["kubectl", "aws", "fluent-bit"],
)
def test_a_line_is_found_in_what_wraps_it(wrap: Any) -> None:
    assert parse(wrap(offered(1))) == json.loads(offered(1))


@pytest.mark.parametrize(
    "other", ["", "Booting worker", "{", '{"message": "request"}', '{"log": "x"}', "{} [1]", "[1]"]
)
def test_lines_of_others_are_passed_over(other: str) -> None:
    assert parse(other) is None


def test_the_table_ends_with_the_sum(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([offered(1), used(1, "alice", 60)])))
    assert main(STAGE) == 0
    said = capsys.readouterr().out
    assert "| alice | small | 1 | 0 | 0 | 60.0 |" in said
    assert f"| **all** | | | | | **240.0** | **{POD_HOUR / 60:,.4f}** |" in said


def test_a_terminal_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    assert main(STAGE) == 2
    assert "standard input is a terminal: pipe the pods' log lines in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.log"], "none.log can't be read: No such file or directory"),
        (["/dev/null"], "no capacity line of a pod in /dev/null: docs/operations.md says where the lines are"),
        (
            ["/dev/null", "--from", "2026-11-01"],
            "no capacity line of a pod in /dev/null in that time: docs/operations.md says where the lines are",
        ),
        (
            ["--from", "2026-12-01", "--to", "2026-11-01T01:00+01:00"],
            "--from 2026-12-01T00:00Z must be before --to 2026-11-01T00:00Z",
        ),
        (["--from", "yesterday"], "--from: 'yesterday' is no time in ISO 8601, such as 2026-11-01T12:00Z"),
        (["/dev/null", "--stage", "local"], "stage 'local' isn't for AWS, so it costs nothing there"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main([*STAGE, *arguments])
    except SystemExit as ended:
        code = int(str(ended.code))
    assert (code, capsys.readouterr().err) == (2, f"sluice: {said}\n")
