"""What a bill divides: the slots that there were, and the time in which they were held."""

import signal
import time
from collections.abc import Callable

import pytest

from service.capacity import Capacity
from testbed.fetching import fetch
from testbed.gateway import Served
from testbed.stand_in import MODEL, StandIn
from testbed.waiting import eventually


def test_the_lines_of_a_process_add_up_to_its_life(make_server: Callable[..., Served]) -> None:
    began = time.monotonic()
    served = make_server(SLOTS="3", PRESTOP="0")
    ready = time.monotonic()
    fetch(f"{served.url}/generate", {"prompt": "Hi"})
    told = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    served.process.wait(30)
    ended = time.monotonic()
    [line] = [line for line in served.lines() if line["message"] == "capacity"]
    assert (line["model"], line["slots"]) == (MODEL, 3)
    assert told - ready <= line["seconds"] <= ended - began


def test_a_caller_who_left_has_held_its_slot_until_then(make_server: Callable[..., Served], stand_in: StandIn) -> None:
    stand_in.hold_at = 0
    served = make_server()
    with served.connect("/generate", {"prompt": "Hi"}):
        eventually(lambda: stand_in.running)

    def left() -> object:
        return next((line for line in served.lines() if line.get("error") == "client_gone"), None)

    line = eventually(left)
    assert 0 < line["slot_ms"] <= line["total_ms"]


def test_each_line_counts_from_the_one_before(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    caplog.set_level("INFO", "sluice.capacity")
    ours = Capacity("small", 4)
    for later in (60.0, 61.5):
        now[0] += later
        ours.write()
    now[0] += 3
    ours.end()
    assert [record.__dict__["fields"]["seconds"] for record in caplog.records] == [60.0, 61.5, 3.0]
