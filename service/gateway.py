"""The parts of the service that all requests to a model share, and the caller of one."""

from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote

from service.admission import Admission, Priority
from service.call import Engine
from service.client import ClientConnection
from service.errors import InvalidRequest
from service.keys import Key
from service.metrics import ModelMetrics
from service.model_watch import ModelWatch
from service.ollama import CHATS, EMBEDS, Ollama
from service.request_log import RequestLog
from service.settings import Role, Settings
from service.suspects import Suspects

KEY_NAME = "X-Key-Name"  # percent-encoded: a key's name may be any text


@dataclass(frozen=True)
class Caller:
    """The sender of a request: its connection, key (if keys are enabled), priority, and the request's log record.

    deaths: engines of other pods that have died during the request, if the sender is a front.
    """

    client: ClientConnection
    record: RequestLog
    priority: Priority = Priority.INTERACTIVE
    key: Key | None = None
    deaths: int = 0

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers with which HAProxy and the pods log and queue the request as this process does.

        The pods log the name of the key too, for the bill.
        """
        told = {"X-Request-Id": self.record.request_id, "X-Priority": self.priority, **self.record.trace_headers}
        if self.key is not None:
            told[KEY_NAME] = quote(self.key.name)
        return told


@dataclass(frozen=True)
class Gateway:
    """The parts of the service that serve one model, shared by all requests to it. settings: with this model alone.

    everybody: the suspects among the requests to all models, where several have one Ollama.
    """

    settings: Settings
    admission: Admission
    ollama: Ollama
    watch: ModelWatch
    metrics: ModelMetrics
    suspects: Suspects
    everybody: Suspects | None = None

    @cached_property
    def engine(self) -> Engine:
        """Return what all calls to the engine share."""
        waits = self.settings.role is not Role.BACK  # behind HAProxy, another pod can take the request at once
        return Engine(self.ollama, self.watch, self.suspects, self.metrics, waits, self.everybody)

    def need_chat(self) -> None:
        """Refuse to chat with a model that can't; raises InvalidRequest."""
        self._need(CHATS, "can't chat: embedding is all it does, at /api/embed and /v1/embeddings")

    def need_embeddings(self) -> None:
        """Refuse to embed with a model that can't; raises InvalidRequest."""
        self._need(EMBEDS, "can't embed: that takes an embedding model, such as nomic-embed-text")

    def _need(self, capability: str, without: str) -> None:
        """Refuse what the model can't do: Ollama would load it again for that, and once more for the next request."""
        known = self.watch.capabilities
        if known and capability not in known:
            raise InvalidRequest(f"model: {self.settings.model} {without}")
