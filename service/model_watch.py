"""Keeps the model in Ollama's memory, and knows whether it is there: /readyz depends on it."""

import logging
import math
import threading
import time
from collections.abc import Callable

from service.engine_errors import EngineDied, EngineDown, answers_oddly
from service.errors import GenerationTimeout, ServiceError
from service.model_facts import Fields, ModelFacts
from service.ollama import CHATS, LOAD_TIMEOUT, Ollama, loading
from service.request_log import said
from service.suspects import Suspects
from service.system_role import has_system_role

log = logging.getLogger("sluice")

EVERY = 1.0  # seconds between two checks
SOON = 0.1  # the same while Ollama is down, since requests wait for it
ANSWER_TIMEOUT = 5.0  # seconds for Ollama to answer questions about itself
SILENCE = 10.0  # seconds without output after which a busy engine may be stuck
PROOF_TIMEOUT = 60.0  # seconds for one token after a prompt of two, while the engine computes other requests
ORDER = 0.25  # seconds within which the order of requests in the engine's queue is uncertain
RELEARN = 30.0  # seconds after which facts that Ollama didn't return are requested again
ENDING = 1.0  # seconds that a request may take to leave the engine after its deadline


class ModelWatch:
    """Checks Ollama once a second from its own thread, and has it load the model if that isn't loaded.

    An engine that has been silent for `silence` seconds while busy must prove that it works, by generating one token;
    otherwise it is restarted. slots: requests that it computes at a time. timeout: seconds that it has for each.
    """

    def __init__(self, ollama: Ollama, suspects: Suspects, *, slots: int, timeout: float) -> None:
        self._ollama, self._suspects, self._slots, self._timeout = ollama, suspects, slots, timeout
        self._log = logging.LoggerAdapter(log, {"fields": {"model": ollama.model}})
        self.silence = min(SILENCE, timeout / 2)
        self.capabilities: frozenset[str] = frozenset()  # such as vision and tools; empty while unknown
        self.system_role = True  # whether its template has system messages
        self.facts: ModelFacts | None = None  # for Ollama's own clients; None while unknown
        self.running: Fields | None = None  # its entry in /api/ps at the last check
        self._learnt = -math.inf
        self.loaded = False
        self.loads, self.load_seconds = 0, 0.0  # how often it was loaded, and how long the last load took
        self._started, self._wake, self._away = False, threading.Event(), False
        self._doubted, self._proved = False, -math.inf  # and the time of the last proof
        self.on_restart: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Start the thread."""
        self._started = True
        threading.Thread(target=self._run, name="model-watch", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                self.look()
            except Exception as error:  # noqa: BLE001  # without this thread, nobody would notice that the engine is back
                self.loaded = self._suspects.watched = False
                self._log.error("the model watch failed: %s", said(error))
            self._wake.wait(SOON if self._away else EVERY)

    def lost(self) -> None:
        """Learn from a request that the engine is gone, and check at once."""
        if self.loaded:
            self._log.error("the model is not ready: the engine died")
        self.loaded = False
        self.wake()

    def doubt(self) -> None:
        """Learn from a request that the engine was silent for long, and have it prove at once that it works."""
        self._doubted = True
        self.wake()

    def wake(self) -> None:
        """Check at once."""
        self._wake.set()

    @property
    def ready(self) -> bool:
        """Say whether a request that waits for the engine may try; without the thread, it has to find out by itself."""
        return self.loaded or not self._started

    def look(self) -> None:
        """Check whether the model is loaded, and load it if not; an error is logged once, not every second."""
        before = self.loaded
        try:
            self._away = False
            self.running = self._ollama.running(ANSWER_TIMEOUT)
            held = self.running is not None
            self.loaded = held and before
            if not held or not self._knows():
                self._learn()
            if not held:
                self._load()
            self.loaded, self._suspects.watched = True, self._started
            if self._doubted or self._suspects.doubtful or self._is_silent():
                self._prove()
        except ServiceError as error:
            self.loaded, self._away = False, isinstance(error, EngineDown | EngineDied)
            self._suspects.watched = False  # so that nobody waits for a proof meanwhile
            if before:
                self._log.error("the model is not ready: %s", error)

    def _knows(self) -> bool:
        """Say whether nothing is left to learn about the model until it is loaded again."""
        return bool(self.capabilities and (self.facts or time.monotonic() < self._learnt + RELEARN))

    def _learn(self) -> None:
        """Ask for the model's capabilities and description; the gateway also serves without the latter."""
        shown = self._ollama.show(ANSWER_TIMEOUT)
        try:
            self.capabilities = frozenset(map(str, shown.get("capabilities") or ()))
            self.system_role = has_system_role(shown.get("template") or "")
        except (TypeError, AttributeError) as error:
            raise answers_oddly(error) from error
        self._learnt = time.monotonic()
        try:
            self.facts = self._ollama.describe(shown, ANSWER_TIMEOUT)
        except (EngineDown, EngineDied):
            raise
        except ServiceError as error:
            self._log.warning("Ollama doesn't describe the model: %s", error)

    def _load(self) -> None:
        started = time.monotonic()
        self._ollama.ask(*loading(self._ollama.payload(), self.capabilities), timeout=LOAD_TIMEOUT)
        self.load_seconds = time.monotonic() - started
        self.loads += 1
        self.running = self._ollama.running(ANSWER_TIMEOUT)
        self._log.info("the model was loaded in %.1f s", self.load_seconds)

    def _is_silent(self) -> bool:
        return min(self._suspects.silent_for(), time.monotonic() - self._proved) >= self.silence

    def _prove(self) -> None:
        """Restart the engine unless it generates a token: it may be stuck with the request of a caller who left."""
        self._doubted, asked = False, time.monotonic()
        patience = min(PROOF_TIMEOUT, self._timeout)
        try:
            self._ollama.generate_one(CHATS in self.capabilities, patience + self._seconds_queued(asked))
            self._suspects.proven(asked)
        except GenerationTimeout:
            if self._ollama.pool.heard > asked:  # by other requests: it is only slow
                return
            if time.monotonic() - self._suspects.freed(self._slots, asked + ORDER) < patience:
                self.doubt()  # other requests were queued before this one at the last moment
                return
            self._restart()
        finally:
            self._proved = time.monotonic()

    def _seconds_queued(self, asked: float) -> float:
        """Return how long a request may wait in the engine's queue at most: until the oldest request there ends."""
        sent = self._suspects.sent()
        return max(0.0, min(sent) + self._timeout - asked) + ENDING if len(sent) >= self._slots else 0.0

    def _restart(self) -> None:
        self._log.error("the engine is stuck; restarting it")
        self.loaded = False
        self.on_restart()
        self._suspects.stuck()
        try:
            self._ollama.unload(ANSWER_TIMEOUT)
        finally:
            self._ollama.pool.cut()
            self.doubt()  # a request that arrived in between may have kept it alive
