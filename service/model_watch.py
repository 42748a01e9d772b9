"""Keeps the model in Ollama's memory and knows whether it is there: the truth behind /readyz."""

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

EVERY = 1.0  # seconds between two looks
SOON = 0.1  # the same while Ollama is away: requests wait for it
ANSWER_TIMEOUT = 5.0  # seconds for Ollama to say what it holds
SILENCE = 10.0  # seconds in which nothing is heard of an engine at work, after which it may be stuck
PROOF_TIMEOUT = 60.0  # seconds for one token, with a prompt of two before it, beside what else it computes
ORDER = 0.25  # seconds within which it isn't sure who came first into the engine's queue
RELEARN = 30.0  # seconds after which what Ollama wouldn't tell of the model is asked again
ENDING = 1.0  # seconds that a request may take to leave the engine after its time is over


class ModelWatch:
    """Looks at Ollama once a second from a thread of its own, and has it load the model when it isn't loaded.

    An engine of which nobody has heard for `silence` seconds, while it was at work, must generate one token; else it is
    started again. slots: requests that it computes at a time. timeout: seconds that it has for each.
    """

    def __init__(self, ollama: Ollama, suspects: Suspects, *, slots: int, timeout: float) -> None:
        self._ollama, self._suspects, self._slots, self._timeout = ollama, suspects, slots, timeout
        self.silence = min(SILENCE, timeout / 2)
        self.capabilities: frozenset[str] = frozenset()  # such as vision and tools; empty while not known
        self.system_role = True  # whether its template writes system messages
        self.facts: ModelFacts | None = None  # for Ollama's own clients; None while not known
        self.running: Fields | None = None  # its entry in /api/ps, at the last look
        self._learnt = -math.inf
        self.loaded = False
        self.loads, self.load_seconds = 0, 0.0  # how often it was loaded, and how long that took last
        self._started, self._wake, self._away = False, threading.Event(), False
        self._doubted, self._proved = False, -math.inf  # and when it had to prove itself last
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
            except Exception as error:  # noqa: BLE001  # without this thread nobody would see the engine come back
                self.loaded = self._suspects.watched = False
                log.error("the watch failed: %s", said(error))
            self._wake.wait(SOON if self._away else EVERY)

    def lost(self) -> None:
        """Take it from a request that the engine is gone, and look at once."""
        if self.loaded:
            log.error("the model is not ready: the engine died")
        self.loaded = False
        self.wake()

    def doubt(self) -> None:
        """Take it from a request that the engine was silent for long, and see at once whether it still generates."""
        self._doubted = True
        self.wake()

    def wake(self) -> None:
        """Look at once."""
        self._wake.set()

    @property
    def ready(self) -> bool:
        """Say whether a request that waits for the engine should go: without the thread it has to find out itself."""
        return self.loaded or not self._started

    def look(self) -> None:
        """See whether the model is loaded, and load it if it isn't; a fault is logged once, not every second."""
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
            self._suspects.watched = False  # nobody shall wait for a proof meanwhile
            if before:
                log.error("the model is not ready: %s", error)

    def _knows(self) -> bool:
        """Say whether there is nothing to ask about the model until it is loaded again."""
        return bool(self.capabilities and (self.facts or time.monotonic() < self._learnt + RELEARN))

    def _learn(self) -> None:
        """Ask what the model can do, and what there is to tell of it, without which the gateway serves all the same."""
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
            log.warning("Ollama doesn't tell of the model: %s", error)

    def _load(self) -> None:
        started = time.monotonic()
        self._ollama.ask(*loading(self._ollama.payload(), self.capabilities), timeout=LOAD_TIMEOUT)
        self.load_seconds = time.monotonic() - started
        self.loads += 1
        self.running = self._ollama.running(ANSWER_TIMEOUT)
        log.info("the model was loaded in %.1f s", self.load_seconds)

    def _is_silent(self) -> bool:
        return min(self._suspects.silent_for(), time.monotonic() - self._proved) >= self.silence

    def _prove(self) -> None:
        """Start the engine again unless it generates something: it may compute for a caller who left long ago."""
        self._doubted, asked = False, time.monotonic()
        patience = min(PROOF_TIMEOUT, self._timeout)
        try:
            self._ollama.generate_one(CHATS in self.capabilities, patience + self._seconds_queued(asked))
            self._suspects.proven(asked)
        except GenerationTimeout:
            if self._ollama.pool.heard > asked:  # by others: it is only slow
                return
            if time.monotonic() - self._suspects.freed(self._slots, asked + ORDER) < patience:
                self.doubt()  # others came before it into the engine's queue, at the last moment
                return
            self._restart()
        finally:
            self._proved = time.monotonic()

    def _seconds_queued(self, asked: float) -> float:
        """Return how long at most a question waits in the engine's queue: until the oldest of its requests ends."""
        sent = self._suspects.sent()
        return max(0.0, min(sent) + self._timeout - asked) + ENDING if len(sent) >= self._slots else 0.0

    def _restart(self) -> None:
        log.error("the engine is stuck: it is started again")
        self.loaded = False
        self.on_restart()
        self._suspects.stuck()
        try:
            self._ollama.unload(ANSWER_TIMEOUT)
        finally:
            self._ollama.pool.cut()
            self.doubt()  # a request that came in between may have kept it
