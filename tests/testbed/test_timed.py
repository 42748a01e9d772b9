"""The timed stand-in as the program `ollama`, asked directly and through the real gateway."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from testbed import ROOT
from testbed.fetching import fetch
from testbed.gateway import serve
from testbed.image import fill
from testbed.ports import free_port
from testbed.programs import STAND_IN
from testbed.stand_in import MODEL
from testbed.stand_in.model import VERSION
from testbed.stand_in.timed import Timed
from testbed.waiting import eventually

pytestmark = pytest.mark.usefixtures("programs")


@dataclass
class Running:
    """A running engine."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def lines(self, event: str = "request") -> list[dict[str, Any]]:
        """Return the lines it has written of an event."""
        whole = self.log.read_text().rpartition("\n")[0].splitlines()
        return [line for line in map(json.loads, whole) if line["event"] == event]

    def finished(self, count: int) -> list[dict[str, Any]]:
        """Return the lines of so many requests, once they are written: that is after their answers."""
        eventually(lambda: len(self.lines()) >= count)
        return self.lines()

    def generate(self, prompt: str, **fields: Any) -> Any:
        """Return the whole answer to a prompt."""
        body = {"model": MODEL, "prompt": prompt, "stream": False, **fields}
        return fetch(f"{self.url}/api/generate", body).json()

    def ask_and_leave(self, prompt: str, when: Callable[[], Any]) -> None:
        """Ask, wait for a condition, and close the connection."""
        body = json.dumps({"model": MODEL, "prompt": prompt}).encode()
        with socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2]))) as sock:
            head = f"POST /api/generate HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            sock.sendall(head.encode() + body)
            eventually(when)


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts an engine; seconds, slots and the rest are its environment's."""
    started: list[Running] = []

    def engine(seconds: float = 0.2, slots: int = 1, **figures: float) -> Running:
        address, log = f"127.0.0.1:{free_port()}", tmp_path / f"engine-{len(started)}.log"
        values = {"OLLAMA_HOST": address, "OLLAMA_NUM_PARALLEL": slots, "ENGINE_SECONDS": seconds, **figures}
        environ = os.environ | {name.upper(): str(value) for name, value in values.items()}
        with log.open("wb") as out:
            process = subprocess.Popen(STAND_IN, cwd=ROOT, env=environ, stdout=out, stderr=subprocess.STDOUT)
        running = Running(process, f"http://{address}", log)
        started.append(running)
        eventually(lambda: running.lines("up"))
        return running

    yield engine
    for each in started:
        each.process.terminate()
        each.process.wait(10)


def after(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() > until


def test_a_prompt_takes_the_same_time_in_every_process_and_through_every_api(start: Start) -> None:
    expected = Timed(seconds=0.3).duration("Why?")
    assert expected != Timed(seconds=0.3).duration("How?")
    running = start(0.3, engine_variation=0.5)
    running.generate("Why?")
    chat = {
        "model": MODEL,
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Why?"}],
    }
    fetch(f"{running.url}/api/chat", chat)
    whole, streamed = running.finished(2)
    assert whole["key"] == streamed["key"]
    for line in (whole, streamed):
        assert expected <= line["ended"] - line["started"] < expected + 0.5


def test_service_times_have_the_mean_and_the_deviation_that_were_asked_for() -> None:
    drawn = [Timed().duration(f"Question {number}") for number in range(4000)]
    mean = sum(drawn) / len(drawn)
    deviation = (sum((each - mean) ** 2 for each in drawn) / len(drawn)) ** 0.5
    assert mean == pytest.approx(12, rel=0.03)
    assert deviation == pytest.approx(6, rel=0.08)
    assert max(drawn) <= 36
    assert Timed(variation=0).duration("Why?") == pytest.approx(12)


def test_no_more_run_than_there_are_slots_and_the_rest_wait_in_order(start: Start) -> None:
    running = start(0.2, slots=2, engine_variation=0)
    with ThreadPoolExecutor(6) as pool:
        for number in range(6):
            pool.submit(running.generate, f"{number}")
            time.sleep(0.02)
    lines = sorted(running.finished(6), key=lambda line: line["arrived"])
    assert [line["outcome"] for line in lines] == ["complete"] * 6
    starts = [line["started"] for line in lines]
    assert starts == sorted(starts)
    for line in lines:
        assert sum(each["started"] <= line["started"] < each["ended"] for each in lines) <= 2
    assert lines[-1]["started"] - lines[-1]["arrived"] > 0.1


def test_a_client_that_leaves_ends_its_work_and_frees_the_slot(start: Start) -> None:
    running = start(20, engine_variation=0)
    running.ask_and_leave("left", after(0.3))
    [left] = running.finished(1)
    assert left["outcome"] == "left"
    assert left["ended"] - left["started"] < 10
    assert running.generate("next", options={"num_predict": 1})["eval_count"] == 1
    assert running.finished(2)[1]["started"] >= left["ended"]


def test_a_client_that_leaves_the_queue_never_starts(start: Start) -> None:
    running = start(3, engine_variation=0)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(running.generate, "first")
        time.sleep(0.5)
        running.ask_and_leave("second", after(0.3))
        [left] = running.finished(1)
        assert (left["started"], left["outcome"]) == (None, "left")
        assert first.result()["done_reason"] == "stop"


def test_fewer_tokens_take_less_time(start: Start) -> None:
    running = start(1.6, engine_variation=0)
    answer = running.generate("Why?", options={"num_predict": 4})
    assert (answer["eval_count"], answer["done_reason"], answer["response"].split()) == (4, "length", ["word"] * 4)
    [line] = running.finished(1)
    assert 0.2 <= line["ended"] - line["started"] < 1


def test_the_first_request_waits_for_the_model(start: Start) -> None:
    running = start(0.05, engine_load_seconds=0.5)
    assert fetch(f"{running.url}/api/ps").json() == {"models": []}
    began = time.monotonic()
    fetch(f"{running.url}/api/embed", {"model": MODEL, "input": []})
    assert time.monotonic() - began >= 0.5
    assert fetch(f"{running.url}/api/ps").json()["models"][0]["name"] == MODEL
    began = time.monotonic()
    running.generate("Why?")
    assert time.monotonic() - began < 0.5


def test_it_uses_the_cpu_time_that_it_is_told_to(start: Start) -> None:
    running = start(1, engine_variation=0, engine_cpus=0.3)
    before = cpu_seconds(running.process.pid)
    running.generate("Why?")
    assert 0.1 <= cpu_seconds(running.process.pid) - before < 0.8  # one that only sleeps takes 0.03


def cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_sigterm_cuts_what_runs_and_ends_it(start: Start) -> None:
    running = start(20)
    with socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2]))) as sock:
        body = json.dumps({"model": MODEL, "prompt": "Why?"}).encode()
        sock.sendall(b"POST /api/generate HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert sock.recv(1024).startswith(b"HTTP/1.1 200")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(5) == 0
    assert running.lines()[0]["outcome"] == "cut"
    assert running.lines("down")
    assert "Traceback" not in running.log.read_text()


def test_the_paths_that_clients_look_at_answer_as_ollamas_do(start: Start) -> None:
    running = start()
    assert fetch(running.url).body == b"Ollama is running"
    assert fetch(f"{running.url}/api/version").json()["version"]
    assert fetch(f"{running.url}/api/tags").json() == {"models": []}
    shown = fetch(f"{running.url}/api/show", {"model": MODEL}).json()
    assert shown["capabilities"] == ["completion", "vision", "tools", "embedding"]
    assert fetch(f"{running.url}/nothing").status == 404


def test_the_gateway_takes_its_answers_whole_and_streamed(start: Start, tmp_path: Path) -> None:
    running = start(0.2, slots=4)
    with serve(running.url, tmp_path / "gateway.log") as served:
        whole = fetch(f"{served.url}/generate", {"prompt": "Why?"}).json()
        assert (whole["finish_reason"], whole["usage"]["completion_tokens"]) == ("stop", 32)
        assert whole["response"] == "word " * 32
        streamed = fetch(f"{served.url}/generate", {"prompt": "Why?", "stream": True, "max_tokens": 5})
        *pieces, last = [json.loads(line) for line in streamed.body.splitlines()]
        assert [piece["response"] for piece in pieces] == ["word "] * 5
        assert (last["done"], last["finish_reason"]) == (True, "length")
        assert [line["outcome"] for line in running.finished(2)] == ["complete"] * 2


def test_a_client_of_the_gateway_that_leaves_ends_the_work(start: Start, tmp_path: Path) -> None:
    running = start(30)
    with serve(running.url, tmp_path / "gateway.log") as served:
        sock = served.connect("/generate", {"prompt": "Why?", "stream": True})
        assert sock.recv(16)
        sock.close()
        [line] = running.finished(1)
        assert line["outcome"] == "left"


def test_what_an_image_gets_of_it_needs_nothing_but_python(tmp_path: Path) -> None:
    fill(tmp_path)
    code = "import runpy, sys; sys.path.insert(0, ''); runpy.run_module('testbed.stand_in', run_name='__main__')"
    command = [sys.executable, "-I", "-S", "-c", code, "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"ollama version is {VERSION}\n", "")


def test_another_command_is_refused_in_one_line() -> None:
    done = subprocess.run([*STAND_IN[:-1], "pull"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
