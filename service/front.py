"""What a front uses in place of Ollama: the pods that generate, through HAProxy's queue."""

import time
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from service.errors import EngineUnavailable, ServiceError
from service.model_facts import ModelFacts, running_of
from service.model_names import full_name
from service.model_watch import ANSWER_TIMEOUT, ModelWatch
from service.ollama import Ollama
from service.settings import Settings
from service.suspects import Suspects

MODEL_NAME = "X-Model"  # percent-encoded: HAProxy chooses the pods by it
PREFIX = "/engine"  # of the routes in service/back.py
MODEL_PATH = "/model"  # on the private port: see service/private_port.py
REFRESH = 5.0  # seconds between two requests for what the pods' model can do
ALONE = 6.0  # seconds without any pod after which a new front gets ready anyway; HAProxy finds pods within 5


class Pods(Ollama):
    """The API of service/back.py, whose pods each add their own model and its load options."""

    def __init__(self, settings: Settings) -> None:
        named = {MODEL_NAME: quote(settings.model, safe="")}
        super().__init__(settings, url=settings.upstream, prefix=PREFIX, headers=named)

    def payload(self, options: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """Return a request body without the model's name and its load options."""
        return {**fields, "options": options or {}}


class PodsWatch(ModelWatch):
    """Asks a pod, through HAProxy, which model it has and what that can do; `loaded`: this front is ready.

    A release whose pods never get ready must not take requests from the previous one. So a front waits for the first
    pod with its own model, unless there are no pods at all.
    """

    def __init__(self, pods: Pods, suspects: Suspects) -> None:
        super().__init__(pods, suspects, slots=0, timeout=0.0)  # only pods ask for proofs
        self._born = time.monotonic()
        self._next = 0.0

    def lost(self) -> None:
        """Stay ready: HAProxy is back within a second, while a front that is not ready gets no requests for longer."""

    def doubt(self) -> None:
        """Do nothing: the pods check their own engines."""

    @property
    def ready(self) -> bool:
        """Return True: a request that waits for HAProxy finds out by itself."""
        return True

    def look(self) -> None:
        """Ask, unless the last answer is recent."""
        now = time.monotonic()
        if now < self._next:
            return
        try:
            model = self._ollama.ask(MODEL_PATH, timeout=ANSWER_TIMEOUT)
        except ServiceError as error:
            self.capabilities, self.running = frozenset(), None
            if error.code == EngineUnavailable.code and now > self._born + ALONE:
                self._serve("without a pod")
            return
        if full_name(str(model.get("model"))) == full_name(self._ollama.model):
            self.capabilities = frozenset(model.get("capabilities") or ())
            self.running = running_of(model.get("running"))
            if "shown" in model:  # missing while a pod doesn't know it yet, and from older releases
                with suppress(ServiceError):
                    self.facts = ModelFacts.read(model.get("version"), model.get("listed"), model["shown"])
            self._serve("with a pod of its model")
        self._next = now + REFRESH if self.loaded else 0.0

    def _serve(self, how: str) -> None:
        if not self.loaded:
            self.loaded = True
            self._log.info("the front is ready, %s", how)
