"""Requests to several models of one Ollama, under which a llama-server dies, or Ollama itself."""

import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from service.runs import Runs
from service.suspects import Suspects
from service.suspicions import Culprit
from testbed import ROOT
from testbed.fetching import fetch
from testbed.gateway import serve
from testbed.ports import free_port
from testbed.programs import STAND_IN
from testbed.waiting import eventually
from tests.support.clock import Clock


class Models:
    """The suspects of two models, a and b, and of both; a request's first letter is its model's name."""

    def __init__(self) -> None:
        clock = Clock()
        self.own, self.everybody = {name: Suspects(clock) for name in "ab"}, Suspects(clock)

    def runs(self, name: str) -> Runs:
        return Runs(self.own[name[0]], self.everybody, name)

    def send(self, name: str) -> Runs:
        runs = self.runs(name)
        assert runs.wait(0)
        runs.send()
        return runs


def test_a_death_of_ollama_holds_against_the_requests_to_all_models_which_are_tried_one_by_one() -> None:
    models = Models()
    killer, honest = models.send("a killer"), models.send("b honest")
    assert [killer.died(again=True, whole=True), honest.died(again=True, whole=True)] == [True, False]
    assert [killer.wait(0), honest.wait(0)] == [True, False]
    killer.send()
    assert not models.runs("b other").wait(0)
    with pytest.raises(Culprit):
        killer.died(again=True, whole=True)
    killer.end(answered=False)
    assert honest.wait(0)
    honest.send()
    honest.end(answered=True)
    models.send("b other").end(answered=True)
    with pytest.raises(Culprit):
        models.runs("a killer").wait(0)


def test_a_death_of_one_models_server_holds_against_its_requests_alone() -> None:
    models = Models()
    killer, honest = models.send("a killer"), models.send("b honest")
    assert killer.died(again=True)
    models.send("b other").end(answered=True)
    assert not models.runs("a other").wait(0)
    assert killer.wait(0)
    killer.send()
    with pytest.raises(Culprit):
        killer.died(again=True)
    honest.end(answered=True)


def test_a_suspect_of_both_kinds_gets_its_turn_while_others_wait() -> None:
    models = Models()
    suspect, beside = models.send("a suspect"), models.send("b beside")
    assert suspect.died(again=True)
    assert suspect.wait(0)
    suspect.send()
    assert suspect.died(again=True, whole=True)
    assert not beside.died(again=True, whole=True)
    other = models.runs("a other")
    assert [other.wait(0), suspect.wait(0), other.wait(0), beside.wait(0)] == [False, True, False, False]
    suspect.send()
    suspect.end(answered=True)
    assert [beside.wait(0), other.wait(0)] == [True, False]
    beside.end(answered=True)
    assert other.wait(0)


@pytest.fixture
def ollama(programs: None) -> Iterator[str]:
    """Return the address of a stand-in that is started again whenever it dies."""
    port, ended = free_port(), threading.Event()
    environ = os.environ | {"ENGINE": "timed", "OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_NUM_PARALLEL": "2"}

    def supervise() -> None:
        while not ended.is_set():
            process = subprocess.Popen(STAND_IN, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL)
            while process.poll() is None and not ended.wait(0.02):
                pass
            process.kill()
            process.wait()

    supervisor = threading.Thread(target=supervise)
    supervisor.start()
    yield f"http://127.0.0.1:{port}"
    ended.set()
    supervisor.join()


def test_no_request_is_refused_for_one_to_another_model_that_ends_ollama(ollama: str, tmp_path: Path) -> None:
    with serve(ollama, tmp_path / "log", model="a b", slots=2) as served, ThreadPoolExecutor(2) as pool:
        in_flight = partial(served.metric, 'sluice_requests_in_flight{model="b"}')
        honest = pool.submit(fetch, f"{served.url}/generate", {"model": "b", "prompt": "Hi [seconds 4]"})
        eventually(lambda: in_flight() == 1)
        killer = {"model": "a", "prompt": "Hi [seconds 4] [pieces 4] [die 2]"}
        assert fetch(f"{served.url}/generate", killer).status == 422
        assert honest.result().status == 200
