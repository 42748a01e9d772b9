"""The HTTP client by which the gateway asks the engine, compared with others: how fast it is, how it is cancelled."""

import asyncio
import contextlib
import json
import queue
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Protocol

import httpx
import ollama

from loadtest.reporting.target import Target, new_target
from service.client import ClientConnection
from service.errors import ClientGone
from service.ollama import Ollama
from service.settings import Settings
from testbed import programs
from testbed.stand_in import MODEL, StandIn
from testbed.waiting import eventually

MESSAGES = [{"role": "user", "content": "Say something."}]
BODY = {"model": MODEL, "messages": MESSAGES, "stream": True}
TOKENS, ROUNDS, WARM_UP, TRIES = 20, 1000, 100, 10
PROMPT_SECONDS, TOKEN_SECONDS = 1.0, 0.25  # that the engine takes in the tests of cancellation
LEAVE_AFTER = 0.1  # seconds, by which the client waits for the engine again
PATIENCE = 30.0  # seconds


class EngineClient(Protocol):
    """Reads streamed answers from an engine, and can be cancelled from another thread in the best way it offers."""

    name: str

    def __init__(self, url: str) -> None: ...

    def pieces(self) -> Iterator[object]:
        """Ask, and yield the pieces of the answer as they come."""

    def cancel(self) -> None:
        """End the answer under way, whose caller has left."""


class Gateways:
    """The gateway's own: http.client's parser on a socket whose waits end when the caller leaves."""

    name = "the gateway's"

    def __init__(self, url: str) -> None:
        self._engine = Ollama(Settings(model=MODEL, ollama_host=url))
        self._connection, self._caller = socket.socketpair()

    def pieces(self) -> Iterator[object]:
        """Ask as the gateway does."""
        client = ClientConnection(self._connection)
        reply = self._engine.request(self._engine.chat_path, BODY, timeout=PATIENCE, client=client)
        try:
            yield from reply.lines()
        finally:
            reply.close()

    def cancel(self) -> None:
        """Leave, as a caller does."""
        self._caller.close()


class Httpx:
    """httpx.Client."""

    name = "`httpx.Client`"

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=PATIENCE)

    def pieces(self) -> Iterator[object]:
        """Ask on the caller's thread."""
        with self._client.stream("POST", "/api/chat", json=BODY) as response:
            yield from map(json.loads, response.iter_lines())

    def cancel(self) -> None:
        """Close the client: until the answer's head has come there is no response that could be closed."""
        self._client.close()


class OllamaPackage:
    """ollama.Client, which is built on httpx.Client."""

    name = "`ollama.Client`"

    def __init__(self, url: str) -> None:
        self._client = ollama.Client(url, timeout=PATIENCE)

    def pieces(self) -> Iterator[object]:
        """Ask on the caller's thread."""
        yield from self._client.chat(MODEL, MESSAGES, stream=True)

    def cancel(self) -> None:
        """Close the client."""
        self._client.close()  # type: ignore[no-untyped-call]


class AsyncHttpx:
    """httpx.AsyncClient on an event loop in a thread of its own, which hands the pieces to the caller's thread."""

    name = "`httpx.AsyncClient`"

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=PATIENCE)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def pieces(self) -> Iterator[object]:
        """Ask on the event loop."""
        passed: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._task = asyncio.run_coroutine_threadsafe(self._ask(passed), self._loop)
        self._task.add_done_callback(lambda _: passed.put(None))
        yield from iter(passed.get, None)
        self._task.result()

    async def _ask(self, passed: "queue.SimpleQueue[object]") -> None:
        async with self._client.stream("POST", "/api/chat", json=BODY) as response:
            async for line in response.aiter_lines():
                passed.put(json.loads(line))

    def cancel(self) -> None:
        """Cancel the task."""
        self._task.cancel()


CLIENTS: tuple[type[EngineClient], ...] = (Gateways, Httpx, OllamaPackage, AsyncHttpx)


def http_clients() -> Iterator[Target]:
    """Read whole answers with each client in turn; then let callers leave, before the first token and between two."""
    yield answers()
    yield cancellation(f"{LEAVE_AFTER:g} s into a prompt that takes {PROMPT_SECONDS:g} s to read", pieces=0)
    yield cancellation(f"mid-answer, {LEAVE_AFTER:g} s after a token, with one each {TOKEN_SECONDS:g} s", pieces=2)


def answers() -> Target:
    """Time the same answer with each client in turn, and the CPU time that it takes this process."""
    with programs.stand_in("scripted", tokens=TOKENS) as url:
        clients: list[EngineClient] = [kind(url) for kind in CLIENTS]
        rounds = [[read(each) for each in clients] for _ in range(WARM_UP + ROUNDS)][WARM_UP:]
    medians = [
        [1000 * statistics.median(each) for each in zip(*costs, strict=True)] for costs in zip(*rounds, strict=True)
    ]
    result = by_client([f"{took:.2f} ms ({cpu:.2f} ms)" for took, cpu in medians])
    what = f"a stream of {TOKENS} tokens read from the stand-in, p50 (of which CPU time), by client"
    return new_target(what, result, "the gateway's is the fastest", medians[0] == min(medians))


def read(client: EngineClient) -> tuple[float, float]:
    """Return the seconds, and the CPU seconds of this process, that one whole answer takes."""
    started, cpu = time.perf_counter(), time.process_time()
    assert sum(1 for _ in client.pieces()) == TOKENS + 1  # the last piece has no token
    return time.perf_counter() - started, time.process_time() - cpu


def cancellation(phase: str, pieces: int) -> Target:
    """Let callers leave after so many pieces, and measure until the engine's connection is closed."""
    engine = StandIn(first_delay=PROMPT_SECONDS, token_delay=TOKEN_SECONDS).start()
    took = [1000 * statistics.median(leave(kind(engine.url), engine, pieces) for _ in range(TRIES)) for kind in CLIENTS]
    engine.stop()
    result = by_client([f"{ms:.0f} ms" for ms in took])
    what = f"caller leaves {phase} → the engine's connection is closed, p50 by client"
    return new_target(what, result, "the gateway's ≤ 20 ms", took[0] <= 20)


def leave(client: EngineClient, engine: StandIn, pieces: int) -> float:
    """Return the seconds from a caller's leaving to the engine's noticing it."""
    before, came = engine.cancelled, threading.Semaphore(0)

    def ask() -> None:
        with contextlib.suppress(ClientGone, CancelledError, httpx.HTTPError, OSError):
            for _ in client.pieces():
                came.release()

    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: engine.running == 1)
    for _ in range(pieces):
        came.acquire()
    time.sleep(LEAVE_AFTER)
    started = time.perf_counter()
    client.cancel()
    eventually(lambda: engine.cancelled == before + 1)
    took = time.perf_counter() - started
    asking.join()
    return took


def by_client(figures: list[str]) -> str:
    """Return the figures with the clients' names."""
    return ", ".join(f"{kind.name} {figure}" for kind, figure in zip(CLIENTS, figures, strict=True))
