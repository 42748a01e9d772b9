"""Ollama over HTTP."""

import contextlib
import json
import time
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from service.addresses import with_port
from service.client import ClientConnection
from service.engine_errors import EngineDied, answers_oddly
from service.errors import ClientGone, GenerationTimeout, ServiceError
from service.model_facts import Fields, ModelFacts, running_of
from service.pool import Pool, WatchedSocket
from service.reply import Reply
from service.settings import Settings

LOOK_TIMEOUT = 0.5  # seconds for the engine to show that it lives
LOOK_AGAIN = 0.1  # seconds after which it is looked at again where that breaks off too
LOOK_PATIENCE = 5.0  # seconds in all
LOAD_TIMEOUT = 600.0  # seconds; a large model from a slow disk takes minutes
NOBODY = ClientConnection(None)
# A prompt that doesn't fit is an error, not half a prompt. It decides how llama-server is started, as num_ctx does, so
# every request that generates says it, and the one that loads the model too: with another value it is loaded again.
UNSHIFTED = {"shift": False}
# As Ollama names what a model can do.
CHATS, EMBEDS, THINKS, TOOLS, SEES = "completion", "embedding", "thinking", "tools", "vision"


class Ollama:
    """Ollama's API and the model served from it.

    `prefix` is where chat and embed lie; another one than Ollama's own is that of a gateway that passes them on.
    """

    def __init__(self, settings: Settings, *, url: str | None = None, prefix: str = "/api") -> None:
        parts = urlsplit(url or settings.ollama_host)
        self._host, self._port = parts.hostname or "", parts.port or 11434
        self.pool = Pool(self._host, self._port)
        self._prefix, self.chat_path, self.embed_path = prefix, f"{prefix}/chat", f"{prefix}/embed"
        self.model = settings.model
        # What the model is loaded with: a request with other values would have it loaded again.
        self._options = {"num_ctx": settings.context_length, "num_thread": settings.threads}

    def payload(self, options: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """Return a request body about the model, which stays loaded after it; the options stand last."""
        return {"model": self.model, "keep_alive": -1, **fields, "options": {**self._options, **(options or {})}}

    def request(
        self,
        path: str,
        payload: Any = None,
        *,
        timeout: float,
        client: ClientConnection = NOBODY,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send `payload` (None: a GET; bytes: as they are) and return the reply once its status is known to be 200.

        timeout: seconds for the whole exchange. Raises a ServiceError or ClientGone.
        """
        message, deadline = self._message(path, payload, headers or {}), time.monotonic() + timeout
        reply = self._send(message, client, deadline)
        if path in (self.chat_path, self.embed_path):  # whose head comes with the first thing that is computed
            self.pool.heard = time.monotonic()
        return reply

    def _send(self, message: bytes, client: ClientConnection, deadline: float) -> Reply:
        if sock := self.pool.take(client, deadline):
            with contextlib.suppress(_Stale):
                return self._exchange(sock, message, kept=True)
            self.pool.forget()  # the others are as old
        return self._exchange(self.pool.connect(client, deadline, stale=sock is not None), message)

    def ask(self, path: str, payload: Any = None, *, timeout: float) -> dict[str, Any]:
        """Return the whole answer to a question of our own; raises as request() does."""
        reply = self.request(path, payload, timeout=timeout)
        try:
            return reply.json()
        finally:
            reply.close()

    def _exchange(self, sock: WatchedSocket, message: bytes, *, kept: bool = False) -> Reply:
        reply = Reply(sock, self.pool)
        try:
            reply.begin(message)
        except (ServiceError, ClientGone) as error:
            reply.close()
            if kept and isinstance(error, EngineDied) and not error.cut and not reply.answered:
                raise _Stale from error
            raise
        return reply

    def holds_model(self, timeout: float = LOOK_TIMEOUT) -> bool:
        """Say whether Ollama has the model in memory. Raises a ServiceError."""
        return self.running(timeout) is not None

    def running(self, timeout: float) -> Fields | None:
        """Return the model's entry in /api/ps, None where it isn't in Ollama's memory. Raises a ServiceError."""
        return running_of(self._entry("/api/ps", timeout))

    def show(self, timeout: float) -> Fields:
        """Return what Ollama shows of the model. Raises a ServiceError."""
        return self.ask("/api/show", {"model": self.model}, timeout=timeout)

    def describe(self, shown: Fields, timeout: float) -> ModelFacts:
        """Return what there is to tell of the model, of which `shown` is known. Raises a ServiceError."""
        version = self.ask("/api/version", timeout=timeout).get("version")
        return ModelFacts.read(version, self._entry("/api/tags", timeout), shown)

    def _entry(self, path: str, timeout: float) -> Fields | None:
        """Return the model's entry in a list of models."""
        answer, wanted = self.ask(path, timeout=timeout), full_name(self.model)
        try:
            return next((model for model in answer.get("models") or () if full_name(model["name"]) == wanted), None)
        except (TypeError, LookupError, AttributeError) as error:
            raise answers_oddly(error) from error

    def lives(self, patience: float = LOOK_PATIENCE) -> bool:
        """Say whether the engine that broke off an exchange is still there, and not one that was started in its place.

        patience: seconds to get through to it; after that, what breaks off is not the engine. Nothing is said against
        the engine where a gateway stands between: that one knows.
        """
        until = time.monotonic() + patience
        while True:
            self.pool.forget()
            try:
                return self._prefix != "/api" or self.holds_model()  # one that was just started holds none
            except GenerationTimeout:
                return True  # a dead one refuses, and a new one answers at once
            except EngineDied:
                if time.monotonic() >= until:
                    return True
                time.sleep(LOOK_AGAIN)
            except ServiceError:
                return False
            finally:
                self.pool.forget()  # the next try gets a connection of its own

    def generate_one(self, chat: bool, timeout: float) -> None:
        """Have the model generate one token, or embed one where it can't `chat`. Raises a ServiceError."""
        if chat:
            messages = [{"role": "user", "content": "Hi"}]
            payload = self.payload({"num_predict": 1}, messages=messages, stream=False, think=False, **UNSHIFTED)
            self.ask(self.chat_path, payload, timeout=timeout)
        else:
            self.ask(self.embed_path, self.payload(input="Hi"), timeout=timeout)

    def unload(self, timeout: float) -> None:
        """Have Ollama kill its llama-server once that has no request any more. Raises a ServiceError."""
        self.ask("/api/generate", {"model": self.model, "keep_alive": 0}, timeout=timeout)

    def _message(self, path: str, payload: Any, headers: Mapping[str, str]) -> bytes:
        """Return the request as one piece, which goes out, and arrives, at once."""
        body = payload if isinstance(payload, bytes) else b"" if payload is None else encode(payload)
        head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: {with_port(self._host, self._port)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


class _Stale(Exception):
    """A kept connection had been closed at its other end before anything was answered on it."""


def loading(payload: Mapping[str, Any], capabilities: Collection[str]) -> tuple[str, dict[str, Any]]:
    """Return path and body of the request that loads a model, so that none of those after it has it loaded again.

    payload: the model's name and options, as every request about it has them. capabilities: what it can do; generating
    nothing loads a model that chats, embedding nothing one that embeds.
    """
    if CHATS in capabilities:
        return "/api/generate", {**payload, **UNSHIFTED}
    return "/api/embed", {**payload, "input": []}


def encode(payload: Any) -> bytes:
    """Return a request body as it is sent."""
    return json.dumps(payload).encode()


def with_tag(model: str) -> str:
    """Return a model's name with its tag, which is `latest` where none is given."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def full_name(model: str) -> str:
    """Return a model's name as Ollama compares it: with its tag, without its own registry's name, in lower case."""
    name = with_tag(model).lower()
    return name.removeprefix("registry.ollama.ai/").removeprefix("library/")
