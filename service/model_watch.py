"""Keeps the model in Ollama's memory and knows whether it is there: the truth behind /readyz."""

import logging
import threading
import time

from service.engine_errors import EngineDied, EngineDown
from service.errors import GenerationTimeout, ServiceError
from service.ollama import Ollama

log = logging.getLogger("sluice")

EVERY = 1.0  # seconds between two looks
SOON = 0.1  # the same while Ollama is away: requests wait for it
ANSWER_TIMEOUT = 5.0  # seconds for Ollama to say what it holds
LOAD_TIMEOUT = 600.0  # seconds; a large model from a slow disk takes minutes


class ModelWatch:
    """Looks at Ollama once a second from a thread of its own, and has it load the model when it isn't loaded.

    patience: seconds in which an engine that was silent for long must generate one token; else it is started again.
    """

    def __init__(self, ollama: Ollama, patience: float) -> None:
        self._ollama, self._patience = ollama, patience
        self.capabilities: frozenset[str] = frozenset()  # such as vision and tools; empty while not known
        self.loaded = False
        self.loads, self.load_seconds = 0, 0.0  # how often it was loaded, and how long that took last
        self._started, self._wake, self._away, self._doubted = False, threading.Event(), False, False

    def start(self) -> None:
        """Start the thread."""
        self._started = True
        threading.Thread(target=self._run, name="model-watch", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._wake.clear()
            self.look()
            self._wake.wait(SOON if self._away else EVERY)

    def lost(self) -> None:
        """Take it from a request that the engine is gone, and look at once."""
        if self.loaded:
            log.error("the model is not ready: the engine died")
        self.loaded = False
        self._wake.set()

    def doubt(self) -> None:
        """Take it from a request that the engine was silent for long, and see at once whether it still generates."""
        self._doubted = True
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
            if not self._ollama.holds_model(ANSWER_TIMEOUT):
                self.loaded = False
                self._load()
            if not self.capabilities:
                shown = self._ollama.ask("/api/show", {"model": self._ollama.model}, timeout=ANSWER_TIMEOUT)
                self.capabilities = frozenset(shown.get("capabilities", ()))
            self.loaded = True
            if self._doubted:
                self._prove()
        except ServiceError as error:
            self.loaded, self._away = False, isinstance(error, EngineDown | EngineDied)
            if before:
                log.error("the model is not ready: %s", error)

    def _load(self) -> None:
        started = time.monotonic()
        # Embedding nothing loads any kind of model; generating nothing is refused for embedding models.
        self._ollama.ask("/api/embed", self._ollama.payload(input=[]), timeout=LOAD_TIMEOUT)
        self.load_seconds = time.monotonic() - started
        self.loads += 1
        log.info("the model was loaded in %.1f s", self.load_seconds)

    def _prove(self) -> None:
        """Start the engine again unless it generates something: it may compute for a caller who left long ago."""
        self._doubted, asked = False, time.monotonic()
        try:
            self._ollama.generate_one("completion" in self.capabilities, self._patience)
        except GenerationTimeout:
            if self._ollama.pool.heard > asked:  # by others: it is only slow
                return
            log.error("the engine is stuck: it is started again")
            self.loaded = False
            self._ollama.unload(ANSWER_TIMEOUT)
            self._ollama.pool.cut()
            self._doubted = True  # a request that came in between may have kept it
            self._wake.set()
