"""The smoke under a real k6, against the gateway and against servers that answer wrongly."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.keys import digest
from testbed import ROOT
from testbed.fetching import fetch
from testbed.gateway import Served, serve
from testbed.stand_in import MODEL, StandIn
from tests.support.api_keys import entry, write
from tests.support.stub import Answer, in_turn, stub

RIGHT = ["2 + 2 is 4, ", "Paris, ", "blue, ", "cold"]


@dataclass
class Run:
    """What became of a run: its exit code, what it said, its report and its verdict, None where it wrote none."""

    code: int
    output: str
    report: Any
    verdict: str | None

    def failed(self) -> set[str]:
        """Return the checks that didn't always pass, and the limits that broke."""
        checks = {check["name"] for check in self.report["root_group"]["checks"] if check["fails"]}
        limits = {
            name
            for name, metric in self.report["metrics"].items()
            if not all(limit["ok"] for limit in metric.get("thresholds", {}).values())
        }
        return checks | limits

    def count(self, metric: str) -> float:
        return float(self.report["metrics"].get(metric, {"values": {"count": 0}})["values"]["count"])


def smoke(k6: str, target: str, folder: Path, **variables: str) -> Run:
    environ = {"TARGET": target, "MODEL": MODEL, "REPORT": str(folder), "HOME": str(folder), **variables}
    command = [k6, "run", "--no-usage-report", "--quiet", "loadtest/smoke.js"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120)
    report, verdict = folder / "report.json", folder / "verdict"
    return Run(
        done.returncode,
        done.stdout + done.stderr,
        json.loads(report.read_text()) if report.exists() else None,
        verdict.read_text() if verdict.exists() else None,
    )


@pytest.fixture(scope="module")
def engine() -> Iterator[StandIn]:
    """A stand-in for Ollama that answers rightly; a test may patch it."""
    server = StandIn(tokens=RIGHT).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def served(engine: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(engine.url, tmp_path_factory.mktemp("gateway") / "log") as gateway:
        yield gateway


def test_a_good_release_passes_with_a_report(k6: str, served: Served, engine: StandIn, tmp_path: Path) -> None:
    run = smoke(k6, served.url, tmp_path)
    assert (run.code, run.verdict) == (0, "passed"), run.output
    assert run.failed() == set()
    assert run.count("iterations") == 8
    assert (run.report["target"], run.report["model"]) == (served.url, MODEL)
    assert f"**{MODEL}** at {served.url}: 10 requests, 0 refused" in (tmp_path / "summary.md").read_text()
    assert len({chat["messages"][0]["content"] for chat in engine.chats()}) == 4


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"tokens": ["banana"]}, {"wrong"}),
        ({"tokens": []}, {"the answer is not empty", "checks", "wrong"}),
        ({"tokens": [" ", "\n"]}, {"the answer is not empty", "checks", "wrong"}),
        ({"error": (500, "broken")}, {"status is 200", "the answer is complete", "the answer is not empty"}),
        ({"end_at": 2}, {"the answer is complete", "checks"}),
    ],
)
def test_a_bad_release_fails(
    k6: str,
    served: Served,
    engine: StandIn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    failed: set[str],
) -> None:
    for name, value in changes.items():
        monkeypatch.setattr(engine, name, value)
    run = smoke(k6, served.url, tmp_path)
    assert (run.code != 0, run.verdict) == (True, "bad"), run.output
    assert failed <= run.failed()


def test_a_release_that_hangs_fails_as_soon_as_a_client_would_give_up(
    k6: str, served: Served, engine: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "hold_at", 0)
    run = smoke(k6, served.url, tmp_path, TIMEOUT="0.3")
    assert run.code != 0
    assert "status is 200" in run.failed()


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"MODEL": "moondream"}, f"serves {MODEL}, not moondream"),
        ({"MODEL": ""}, "set TARGET to the address and MODEL to the model"),
        ({"TARGET": ""}, "set TARGET to the address and MODEL to the model"),
        ({"TARGET": "http://127.0.0.1:9"}, "http://127.0.0.1:9/v1/models: status 0"),
    ],
)
def test_a_wrong_target_or_model_ends_the_run_before_it_starts(
    k6: str, served: Served, tmp_path: Path, variables: dict[str, str], reason: str
) -> None:
    run = smoke(k6, served.url, tmp_path, **variables)
    assert run.code != 0
    assert reason in run.output


@pytest.mark.parametrize("status", [502, 503])
def test_a_load_balancer_that_has_no_targets_yet_is_waited_for(k6: str, tmp_path: Path, status: int) -> None:
    balancer: Answer = (status, {"Server": "awselb/2.0"}, {})
    models: Answer = (200, {}, {"data": [{"id": MODEL}]})
    left = [balancer, balancer, models]
    with stub(lambda request: in_turn(left) if request.method == "GET" else GOOD) as server:
        run = smoke(k6, server.url, tmp_path, PATIENCE="30")
    assert run.code == 0, run.output


def test_a_target_that_never_comes_ends_the_run_when_patience_is_over(k6: str, tmp_path: Path) -> None:
    started = time.monotonic()
    run = smoke(k6, "http://127.0.0.1:9", tmp_path, PATIENCE="3")
    assert "http://127.0.0.1:9/v1/models: status 0" in run.output
    assert time.monotonic() - started > 3


def test_a_release_that_answers_wrongly_is_not_waited_for(k6: str, tmp_path: Path) -> None:
    with stub(lambda request: (500, {}, {"error": {"code": "internal_error"}})) as server:
        run = smoke(k6, server.url, tmp_path, PATIENCE="100")
    assert "status 500" in run.output


def test_an_api_key_is_sent(k6: str, stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.tokens = RIGHT
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[smoke]\nsha256 = "{digest("secret")}"\nrequests_per_minute = 600\nconcurrent = 4\n')
    with serve(stand_in.url, tmp_path / "log", api_keys_file=keys) as gateway:
        assert "status 401" in smoke(k6, gateway.url, tmp_path).output
        run = smoke(k6, gateway.url, tmp_path, API_KEY="secret")
    assert run.code == 0, run.output
    assert "secret" not in run.output + json.dumps(run.report)


def test_a_smoke_test_gets_its_answers_at_once_while_others_flood_the_service(
    k6: str, stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in.tokens, stand_in.first_delay = RIGHT, 0.1
    keys = write(tmp_path / "keys", entry("smoke", "secret", priorities=["smoke"]) + entry("public", "public"))
    ended, refused = threading.Event(), threading.Event()

    def flood(url: str) -> None:
        while not ended.is_set():
            reply = fetch(f"{url}/generate", {"prompt": "x"}, {"Authorization": "Bearer public"})
            if reply.status == 503:
                refused.set()

    with (
        serve(stand_in.url, tmp_path / "log", api_keys_file=keys, slots=2, max_queue=4, queue_timeout=1) as gateway,
        ThreadPoolExecutor(16) as pool,
    ):
        public = [pool.submit(flood, gateway.url) for _ in range(16)]
        try:
            assert refused.wait(10)
            run = smoke(k6, gateway.url, tmp_path, API_KEY="secret")
        finally:
            ended.set()
    assert all(each.exception() is None for each in public)
    assert (run.code, run.verdict, run.count("refused")) == (0, "passed", 0), run.output


def test_an_address_may_have_credentials_which_are_not_printed(k6: str, tmp_path: Path) -> None:
    with canned(GOOD) as url:
        run = smoke(k6, url.replace("://", "://lovelace:p%40ss@") + "/v1/", tmp_path)
    assert run.code == 0, run.output
    assert run.report["target"] == url
    for text in (run.output, json.dumps(run.report), (tmp_path / "summary.md").read_text()):
        assert "lovelace" not in text


GOOD: tuple[int, dict[str, str], dict[str, Any]] = (
    200,
    {},
    {
        "response": "".join(RIGHT),
        "done": True,
        "model": MODEL,
        "finish_reason": "stop",
        "usage": {"completion_tokens": 4},
    },
)


@contextmanager
def canned(*answers: Answer) -> Iterator[str]:
    """Serve a gateway whose /generate gives these answers in turn, and then the last one for ever."""
    left = list(answers)
    models: Answer = (200, {}, {"data": [{"id": MODEL}]})
    with stub(lambda request: models if request.method == "GET" else in_turn(left)) as server:
        yield server.url


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_that_says_when_to_come_back_is_no_failure(k6: str, tmp_path: Path, status: int) -> None:
    refusal: Answer = (status, {"Retry-After": "1"}, {"error": {"code": "saturated"}})
    with canned(refusal, refusal, GOOD) as url:
        run = smoke(k6, url, tmp_path)
    assert run.code == 0, run.output
    assert run.count("refused") == 2
    assert "12 requests, 2 refused" in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0"}, {"Retry-After": "soon"}])
def test_a_refusal_that_does_not_is_one(k6: str, tmp_path: Path, headers: dict[str, str]) -> None:
    with canned((503, headers, {"error": {"code": "saturated"}}), GOOD) as url:
        run = smoke(k6, url, tmp_path)
    assert run.code != 0
    assert {"a refusal says when to come back", "checks"} <= run.failed()


BUSY: Answer = (503, {"Retry-After": "0.1"}, {"error": {"code": "saturated"}})


@pytest.mark.parametrize("refusal", [BUSY, (429, {"Retry-After": "0.1"}, {"error": {"code": "quota_exceeded"}})])
def test_a_release_that_is_busy_all_the_time_is_not_judged(k6: str, tmp_path: Path, refusal: Answer) -> None:
    with canned(refusal) as url:
        run = smoke(k6, url, tmp_path, SECONDS="2")
    assert (run.code, run.verdict) == (0, "busy"), run.output
    assert run.failed() == set()
    assert run.count("refused") > 8 * 4
    assert "8 of 8 questions not judged: busy" in (tmp_path / "summary.md").read_text()


def test_a_release_that_is_too_busy_to_say_its_model_is_not_judged(k6: str, tmp_path: Path) -> None:
    with stub(lambda request: BUSY) as server:
        run = smoke(k6, server.url, tmp_path, SECONDS="2")
    assert (run.code, run.verdict) == (0, "busy"), run.output


def test_a_busy_release_whose_answers_are_bad_is_bad(k6: str, tmp_path: Path) -> None:
    bad: Answer = (200, {}, GOOD[2] | {"response": ""})
    with canned(bad, BUSY) as url:
        run = smoke(k6, url, tmp_path, SECONDS="2")
    assert (run.code != 0, run.verdict) == (True, "bad")


def test_a_busy_release_is_not_bad_for_a_question_that_the_model_cannot_answer(k6: str, tmp_path: Path) -> None:
    wrong: Answer = (200, {}, GOOD[2] | {"response": "banana"})
    with canned(wrong, BUSY) as url:
        run = smoke(k6, url, tmp_path, SECONDS="2")
    assert (run.code, run.verdict) == (0, "busy"), run.output


def test_a_release_without_an_engine_fails(k6: str, tmp_path: Path) -> None:
    with canned((503, {"Retry-After": "0.01"}, {"error": {"code": "engine_unavailable"}})) as url:
        run = smoke(k6, url, tmp_path)
    assert (run.code != 0, run.verdict) == (True, "bad")
    assert run.count("refused") == 8 * 4
    assert {"status is 200", "wrong"} <= run.failed()


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"model": "another"}, "the model is the right one"),
        ({"model": f"{MODEL}:latest"}, None),
        ({"finish_reason": None}, "the answer is complete"),
        ({"done": False}, "the answer is complete"),
        ({"usage": {"completion_tokens": 0}}, "the answer is not empty"),
    ],
)
def test_each_part_of_an_answer_is_checked(k6: str, tmp_path: Path, change: dict[str, Any], failed: str | None) -> None:
    with canned((200, {}, GOOD[2] | change)) as url:
        run = smoke(k6, url, tmp_path)
    assert (run.code == 0) == (failed is None), run.output
    assert run.failed() == ({failed, "checks", "wrong"} if failed else set())
