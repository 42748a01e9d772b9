"""An engine that computes and answers nobody is started again; one that is only slow is left alone."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from flask import Flask

from service import model_watch
from service.engine_errors import EngineDied
from service.errors import InvalidRequest
from service.gateway import Gateway
from service.model_watch import ModelWatch
from service.ollama import Ollama
from service.settings import Settings
from service.suspects import Run, Suspects
from testbed.fetching import fetch
from testbed.gateway import Served
from testbed.stand_in import MODEL, NAME, StandIn
from testbed.stand_in import model as stand_in_model
from testbed.waiting import eventually
from tests.support.errors import error_of
from tests.support.gateways import books, generate
from tests.support.stub import scripted

Server = Callable[..., Served]
STUCK = "a schema that is computed for ever"


def test_an_engine_that_is_stuck_is_started_again_and_those_beside_are_answered(
    make_server: Server, stand_in: StandIn
) -> None:
    stand_in.stuck_by = STUCK
    served = make_server(GENERATION_TIMEOUT="2", SLOTS="4")
    eventually(lambda: served.metric("sluice_model_loaded"))
    reply = fetch(f"{served.url}/generate", {"prompt": STUCK})
    assert reply.status == 504
    with ThreadPoolExecutor(4) as pool:
        beside = list(pool.map(lambda n: fetch(f"{served.url}/generate", {"prompt": f"beside {n}"}, timeout=30), "abc"))
    assert stand_in.unloads == 1
    statuses = [reply.status for reply in beside]
    assert set(statuses) <= {200, 504}  # an answer, or the end of its own time, within which the engine came back
    eventually(lambda: served.metric("sluice_model_loaded"))
    assert fetch(f"{served.url}/generate", {"prompt": "after"}).status == 200
    assert served.metric("sluice_requests_in_flight") == 0


@pytest.fixture
def ollama(stand_in: StandIn) -> Iterator[Ollama]:
    ollama = Ollama(Settings(ollama_host=stand_in.url, model=MODEL))
    yield ollama
    ollama.pool.forget()


@pytest.fixture
def suspects(ollama: Ollama) -> Suspects:
    return Suspects(heard=lambda: ollama.pool.heard)


def watching(ollama: Ollama, suspects: Suspects | None = None, slots: int = 4) -> ModelWatch:
    watch = ModelWatch(ollama, suspects or Suspects(), slots=slots, timeout=0.5)
    watch.look()
    assert watch.loaded
    return watch


def doubting(ollama: Ollama) -> ModelWatch:
    watch = watching(ollama)
    watch.doubt()
    return watch


def send(suspects: Suspects) -> Run:
    """Return a run that is with the engine."""
    run = suspects.run("a")
    assert run.wait(0)
    run.send()
    return run


def test_an_engine_that_generates_is_left_alone(ollama: Ollama, stand_in: StandIn) -> None:
    watch = doubting(ollama)
    watch.look()
    assert stand_in.chats()[-1]["options"]["num_predict"] == 1
    watch.look()
    assert (watch.loaded, stand_in.unloads, len(stand_in.chats())) == (True, 0, 1)  # asked once a doubt


def test_an_engine_that_gives_others_their_answers_is_only_slow(ollama: Ollama, stand_in: StandIn) -> None:
    stand_in.tokens, stand_in.token_delay = ["word "] * 30, 0.1
    watch = doubting(ollama)
    with closing(ollama.request("/api/chat", ollama.payload(messages=[]), timeout=30)) as answer:
        pieces = answer.lines()
        next(pieces)
        stand_in.first_delay = 5
        with ThreadPoolExecutor(1) as pool:
            rest = pool.submit(list, pieces)
            watch.look()
            assert not rest.done()
    assert (watch.loaded, stand_in.unloads) == (True, 0)


def test_a_model_that_only_embeds_proves_itself_by_embedding(ollama: Ollama, stand_in: StandIn) -> None:
    stand_in.capabilities = ["embedding"]
    watch = doubting(ollama)
    watch.look()
    path, body = stand_in.requests[-1]
    assert (path, body["input"], watch.loaded) == ("/api/embed", "Hi", True)


def test_an_engine_that_stays_stuck_is_started_again_once_more(ollama: Ollama, stand_in: StandIn) -> None:
    stand_in.stuck_by = "Hi"  # what the watch itself asks
    watch = doubting(ollama)
    for unloads in (1, 2):
        watch.look()
        assert (watch.loaded, stand_in.unloads) == (False, unloads)


def test_the_silence_of_an_engine_at_work_is_noticed_by_the_watch_itself(
    ollama: Ollama, suspects: Suspects, stand_in: StandIn
) -> None:
    stand_in.stuck_by = "Hi"
    watch, run = watching(ollama, suspects), send(suspects)
    watch.look()
    assert stand_in.chats() == []
    eventually(lambda: suspects.silent_for() >= watch.silence)
    watch.look()
    assert (watch.loaded, stand_in.unloads) == (False, 1)
    assert not run.died(cut=True)
    assert send(suspects).deaths == 1


def test_an_idle_engine_and_one_just_heard_of_prove_nothing(
    ollama: Ollama, suspects: Suspects, stand_in: StandIn
) -> None:
    watch, run = watching(ollama, suspects), send(suspects)
    eventually(lambda: suspects.silent_for() >= watch.silence)
    ollama.ask("/api/embed", ollama.payload(input=["x"]), timeout=5)
    watch.look()
    run.end(answered=False)
    eventually(lambda: not suspects.silent_for())
    watch.look()
    assert stand_in.chats() == []


@pytest.mark.parametrize(("slots", "unloads"), [(1, 0), (2, 1)])
def test_a_proof_that_waits_in_the_engines_queue_has_longer(
    ollama: Ollama, suspects: Suspects, stand_in: StandIn, slots: int, unloads: int
) -> None:
    stand_in.first_delay = 0.9  # until the request before it ends
    watch = watching(ollama, suspects, slots)
    send(suspects)
    watch.doubt()
    watch.look()
    assert stand_in.unloads == unloads


def test_a_proof_is_asked_again_where_others_came_before_it_at_the_last_moment(
    ollama: Ollama, suspects: Suspects, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.first_delay = 5
    watch = watching(ollama, suspects, slots=1)
    watch.doubt()
    ask = ollama.generate_one

    def late(chat: bool, timeout: float) -> None:
        send(suspects)
        ask(chat, timeout)

    monkeypatch.setattr(ollama, "generate_one", late)
    watch.look()
    assert stand_in.unloads == 0
    stand_in.first_delay = 0
    monkeypatch.setattr(ollama, "generate_one", ask)
    watch.look()
    assert (stand_in.unloads, len(stand_in.chats())) == (0, 2)


def test_only_what_is_computed_is_heard(ollama: Ollama, stand_in: StandIn) -> None:
    ollama.holds_model()
    stand_in.error = (400, "no")
    with pytest.raises(InvalidRequest):
        ollama.request("/api/chat", ollama.payload(messages=[]), timeout=5)
    assert ollama.pool.heard < 0
    stand_in.error = None
    ollama.ask("/api/embed", ollama.payload(input=["x"]), timeout=5)
    assert ollama.pool.heard > 0


def test_those_that_are_cut_are_sent_again_and_the_one_that_sticks_it_alone_is_refused(
    app: Flask, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_watch, "PROOF_TIMEOUT", 0.5)
    stand_in.stuck_by = STUCK
    gateway: Gateway = app.extensions["sluice"].default
    with ThreadPoolExecutor(2) as pool:
        stuck = pool.submit(generate, app.test_client(), prompt=STUCK)
        eventually(lambda: stand_in.running == 1)
        honest = pool.submit(generate, app.test_client(), prompt="honest")
        eventually(lambda: stand_in.running == 2)
        gateway.watch.doubt()
        gateway.watch.look()
        assert honest.result().status_code == 200
        eventually(lambda: stand_in.running == 1)
        gateway.watch.doubt()
        gateway.watch.look()
        reply = stuck.result()
    assert (reply.status_code, error_of(reply)["code"]) == (422, "kills_engine")
    assert stand_in.unloads == 2
    assert gateway.metrics.engine_deaths._value.get() == 2
    assert books(app) == (0, 0)


def stick_and_leave(served: Served, stand_in: StandIn) -> None:
    """Get the engine stuck and leave; return once it is well again, with an honest caller beside all the time."""
    chats, unloads = len(stand_in.chats()), stand_in.unloads
    with served.connect("/generate", {"prompt": STUCK}):
        eventually(lambda: len(stand_in.chats()) > chats and stand_in.running)
    assert fetch(f"{served.url}/generate", {"prompt": "honest"}).status in (200, 503, 504)
    eventually(lambda: stand_in.unloads == unloads + 1)
    eventually(lambda: fetch(f"{served.url}/generate", {"prompt": "honest"}).status == 200)


def test_who_sticks_the_engine_and_leaves_is_refused_in_the_end_and_an_honest_caller_never(
    make_server: Server, stand_in: StandIn
) -> None:
    stand_in.stuck_by = STUCK
    served = make_server(GENERATION_TIMEOUT="2", SLOTS="4")
    for _ in range(2):
        stick_and_leave(served, stand_in)
    assert fetch(f"{served.url}/generate", {"prompt": STUCK}).status == 422
    assert stand_in.unloads == 2


def test_a_call_that_is_cut_before_its_answer_is_not_sent_again_on_another_connection(
    ollama: Ollama, stand_in: StandIn
) -> None:
    ollama.holds_model()  # leaves a connection
    stand_in.stuck_by = STUCK
    with ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(ollama.ask, "/api/chat", ollama.payload(messages=[STUCK]), timeout=30)
        eventually(lambda: stand_in.running == 1)
        ollama.pool.cut()
        with pytest.raises(EngineDied) as died:
            stuck.result()
    assert died.value.cut
    assert len(stand_in.chats()) == 1


def test_a_connection_that_is_made_while_calls_are_cut_is_cut_too(
    ollama: Ollama, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: Any, **__: Any) -> Any:
        sock = plain(("127.0.0.1", stand_in.port))
        ollama.pool.cut()
        return sock

    plain = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(EngineDied) as died:
        ollama.ask("/api/chat", ollama.payload(messages=[]), timeout=5)
    assert died.value.cut
    assert stand_in.chats() == []


@pytest.mark.parametrize(
    ("held", "shown"),
    [
        ({"models": None}, {"capabilities": None}),
        ({"models": 1}, {}),
        ({"models": ["a"]}, {}),
        ({"models": [{}]}, {}),
        ({"models": [{"name": None}]}, {}),
        (b"[1]", {}),
        (b"[" * 100_000, {}),
        ({"models": [{"name": MODEL}]}, {"capabilities": 1}),
    ],
)
def test_an_odd_answer_is_a_fault_of_the_engine(held: Any, shown: Any) -> None:
    with scripted(api_ps=held, api_show=shown, api_embed={}, api_generate={}) as engine:
        ollama = Ollama(Settings(ollama_host=engine.url, model=MODEL))
        watch = ModelWatch(ollama, Suspects(), slots=1, timeout=1)
        watch.look()
        assert watch.loaded == (held == {"models": None})
        ollama.pool.forget()


def test_the_watch_goes_on_after_a_fault_of_its_own(
    ollama: Ollama, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watch, faults = watching(ollama), iter([KeyError("a prompt"), SystemExit()])

    def look() -> None:
        raise next(faults)

    monkeypatch.setattr(watch, "look", look)
    monkeypatch.setattr(model_watch, "EVERY", 0.01)
    with pytest.raises(SystemExit):
        watch._run()
    assert not watch.loaded
    assert "the model watch failed: KeyError" in caplog.text
    assert "a prompt" not in caplog.text


def test_what_ollama_tells_of_the_model_is_asked_once_and_again_when_it_is_loaded_anew(
    ollama: Ollama, stand_in: StandIn
) -> None:
    watch = watching(ollama)
    watch.look()
    assert [path for path, _ in stand_in.requests].count("/api/show") == 1
    assert watch.facts.shown["template"] == stand_in.template
    assert watch.running == stand_in_model.running(NAME)
    stand_in.loaded, stand_in.template = False, "{{ .Prompt }}"
    watch.look()
    assert watch.facts.shown["template"] == "{{ .Prompt }}"
    assert (watch.loaded, watch.system_role, watch.running) == (True, False, stand_in_model.running(NAME))


def test_an_engine_that_tells_nothing_of_its_model_serves_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    with scripted(
        api_ps={"models": [{"name": MODEL}]}, api_show={"capabilities": ["completion"]}, api_tags={"models": []}
    ) as engine:
        ollama = Ollama(Settings(ollama_host=engine.url, model=MODEL))
        watch = watching(ollama)
        watch.look()
        ollama.pool.forget()
    assert (watch.loaded, watch.facts, watch.capabilities) == (True, None, frozenset({"completion"}))
    assert [path for path, *_ in engine.requests].count("/api/version") == 1  # not at every look
    assert "Ollama doesn't describe the model" in caplog.text
