import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtest.bench import load
from loadtest.reporting.folder import write
from planning.measure import QueueUnderTest, replay
from planning.validate import target
from planning.validation_report import SHARES, blocks
from planning.workload import Trace
from testbed.fetching import fetch
from testbed.gateway import serve
from testbed.stand_in import MODEL
from testbed.stand_in.stepped import Stepped


@pytest.fixture
def engine() -> Iterator[Stepped]:
    """Yield an engine of 1,000 tokens/s of prompt, 100 tokens/s of one answer, 50 of each of two."""
    running = Stepped(prefill=1000, seconds_a_token=[0, 0.01, 0.02])
    running.start()
    yield running
    running.stop()


def seconds(engine: Stepped, *requests: tuple[int, int]) -> float:
    """Return how long requests take together; each is words of prompt and tokens of answer."""

    async def ask_all() -> float:
        async with load.session() as client:
            targets = [
                load.Request(
                    f"{engine.url}/api/chat",
                    {"messages": [{"content": "x " * words}], "options": {"num_predict": tokens}},
                )
                for words, tokens in requests
            ]
            started = time.perf_counter()
            results = await asyncio.gather(*(load.ask(client, target, started) for target in targets))
            assert {result.status for result in results} == {200}
            return time.perf_counter() - started

    return asyncio.run(ask_all())


def test_the_engine_takes_a_steps_time_a_token_and_reads_prompts_at_their_speed(engine: Stepped) -> None:
    assert seconds(engine, (200, 21)) == pytest.approx(0.2 + 20 * 0.01, abs=0.08)  # the prompt yields the first token


def test_the_engines_slots_slow_each_other(engine: Stepped) -> None:
    alone, together = seconds(engine, (10, 31)), seconds(engine, (10, 31), (10, 31))
    assert together - alone == pytest.approx(0.01 + 30 * 0.01, abs=0.1)


@pytest.mark.usefixtures("programs")
def test_a_replay_sees_the_waits_of_the_gateways_queue(engine: Stepped, tmp_path: Path) -> None:
    trace = Trace(np.array([0.1, 0.1, 0.1]), np.array([100.0] * 3), np.array([11.0] * 3))
    with serve(engine.url, tmp_path / "log", slots=1, max_queue=1, model=MODEL) as served:
        fetch(f"{served.url}/generate", {"prompt": "x", "max_tokens": 1})
        outcome, late = replay(QueueUnderTest(served.url), trace, "run")
    assert (outcome.arrived, outcome.refused, outcome.timed_out) == (3, 1, 0)
    assert sorted(outcome.waits) == pytest.approx([0, 0.2], abs=0.08)
    assert sorted(outcome.latencies) == pytest.approx([0.2, 0.4], abs=0.15)
    assert 0 <= late < 1


def row(measured: float, predicted: float) -> dict[str, Any]:
    return {
        "case": "gateway",
        "load": 0.9,
        "requests": 1000,
        "p95_wait_s": {"measured": measured, "predicted": predicted},
        "error": predicted / measured - 1,
        "fresh_p95_wait_s": [0.2, 0.1, 0.3],
        "mean_service_s": {"measured": 0.1, "predicted": 0.1},
        "p95_latency_s": {"measured": 0.3, "predicted": 0.3},
        "refused": {"measured": 0.0, "predicted": 0.0},
        "waits_s": {"measured": list(0.2 * SHARES), "predicted": list(0.21 * SHARES)},
    }


def report(name: str, *rows: dict[str, Any]) -> dict[str, Any]:
    about = {"name": name, "command": "x", "started": "y", "cpus": 2, "machine": "z", "revision": "r", "seconds": 1}
    return {**about, "fresh_traces": 4, "limit": 0.15, "targets": [target(list(rows))], "rows": list(rows)}


def test_the_report_says_whether_the_worst_prediction_is_within_its_limit(tmp_path: Path) -> None:
    good, bad = report("good", row(0.2, 0.21), row(0.3, 0.27)), report("bad", row(0.2, 0.21), row(0.3, 0.2))
    folders = [write(each, blocks(each), tmp_path) for each in (good, bad)]
    said = [(folder / "summary.md").read_text() for folder in folders]
    assert "| at most -10.0% (gateway, 90% load) | within 15% | passed |" in said[0]
    assert "| at most -33.3% (gateway, 90% load) | within 15% | **failed** |" in said[1]
    assert len(json.loads((folders[0] / "report.json").read_text())["rows"]) == 2
    page = (folders[0] / "report.html").read_text()
    assert page.count("<svg") == 1
    assert (write(good, blocks(good), tmp_path / "again") / "report.html").read_text() == page
