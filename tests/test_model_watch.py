"""An engine that computes and answers nobody is started again; one that is only slow is left alone."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from service.model_watch import ModelWatch
from service.ollama import Ollama
from service.settings import Settings
from tests.servers import Served, fetch
from tests.stand_in import MODEL, StandIn, eventually

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


def doubting(ollama: Ollama) -> ModelWatch:
    watch = ModelWatch(ollama, patience=0.5)
    watch.look()
    assert watch.loaded
    watch.doubt()
    return watch


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
