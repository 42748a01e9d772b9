"""Keeps the model in Ollama's memory and knows whether it is there: the truth behind /readyz."""

import logging
import threading
import time
from typing import Any

from service.errors import ServiceError
from service.ollama import Ollama, with_tag

log = logging.getLogger("sluice")

EVERY = 1.0  # seconds between two looks
ANSWER_TIMEOUT = 5.0  # seconds for Ollama to say what it holds
LOAD_TIMEOUT = 600.0  # seconds; a large model from a slow disk takes minutes


class ModelWatch:
    """Looks at Ollama once a second from a thread of its own, and has it load the model when it isn't loaded."""

    def __init__(self, ollama: Ollama) -> None:
        self._ollama = ollama
        self.capabilities: frozenset[str] = frozenset()  # such as vision and tools; empty while not known
        self.loaded = False
        self.load_seconds = 0.0

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="model-watch", daemon=True).start()

    def _run(self) -> None:
        wait = threading.Event()
        while True:
            self.look()
            wait.wait(EVERY)

    def look(self) -> None:
        """See whether the model is loaded, and load it if it isn't; a fault is logged once, not every second."""
        before = self.loaded
        try:
            if not self._is_loaded():
                self.loaded = False
                self._load()
            if not self.capabilities:
                shown = self._call("/api/show", {"model": self._ollama.model})
                self.capabilities = frozenset(shown.get("capabilities", ()))
            self.loaded = True
        except ServiceError as error:
            self.loaded = False
            if before:
                log.error("the model is not ready: %s", error)

    def _is_loaded(self) -> bool:
        held = self._call("/api/ps").get("models", [])
        return with_tag(self._ollama.model) in {with_tag(model["name"]) for model in held}

    def _load(self) -> None:
        started = time.monotonic()
        # Embedding nothing loads any kind of model; generating nothing is refused for embedding models.
        self._call("/api/embed", self._ollama.payload(input=[]), LOAD_TIMEOUT)
        self.load_seconds = time.monotonic() - started
        log.info("the model was loaded in %.1f s", self.load_seconds)

    def _call(
        self, path: str, payload: dict[str, Any] | None = None, timeout: float = ANSWER_TIMEOUT
    ) -> dict[str, Any]:
        reply = self._ollama.request(path, payload, timeout=timeout)
        try:
            return reply.json()
        finally:
            reply.close()
