"""One model is asked for ten times what it has places for, and another one's callers don't notice."""

from pathlib import Path

import pytest

from testbed.fetching import fetch
from testbed.gateway import serve
from testbed.stand_in.timed import Timed
from testbed.waiting import eventually

SLOTS, QUEUE = 2, 4
PLACES = SLOTS + QUEUE
FOREVER = 600
SECONDS = 0.05  # of an answer of the other model


@pytest.mark.usefixtures("programs")
def test_an_overloaded_model_takes_nothing_from_another(tmp_path: Path) -> None:
    engine = Timed(slots=SLOTS, seconds=SECONDS, variation=0).start()
    busy = {"model": "busy", "prompt": f"Hi [seconds {FOREVER}]"}
    deadlines = {"queue_timeout": FOREVER, "generation_timeout": FOREVER}
    settings = {"model": "busy idle", "slots": SLOTS, "max_queue": QUEUE, **deadlines}
    with serve(engine.url, tmp_path / "log", **settings) as served:
        for _ in range(5 * PLACES):
            served.connect("/generate", busy)
        eventually(lambda: served.metric('sluice_requests_refused_total{model="busy"}') == 4 * PLACES, 60)
        for number in range(5 * PLACES):  # the refused, who come again
            served.connect("/generate", busy)
            reply = fetch(f"{served.url}/generate", {"model": "idle", "prompt": f"number {number}"})
            assert reply.status == 200
            assert reply.json()["timings"]["queued_ms"] < SECONDS * 1000
        eventually(lambda: served.metric('sluice_requests_refused_total{model="busy"}') == 9 * PLACES, 60)
        for name, count in (("in_flight", SLOTS), ("queued", QUEUE)):
            assert served.metric(f'sluice_requests_{name}{{model="busy"}}') == count
        assert served.metric('sluice_requests_refused_total{model="idle"}') == 0
        assert served.metric('sluice_requests_admitted_total{model="idle"}') == 5 * PLACES
    engine.stop()
