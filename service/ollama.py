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
from service.model_names import full_name
from service.pool import Pool, WatchedSocket
from service.reply import Reply
from service.settings import Settings

LOOK_TIMEOUT = 0.5  # seconds for the engine to show that it is alive
LOOK_AGAIN = 0.1  # seconds until the next check if this one breaks off too
LOOK_PATIENCE = 5.0  # seconds for all checks
LOAD_TIMEOUT = 600.0  # seconds; a large model from a slow disk takes minutes
NOBODY = ClientConnection(None)
# A prompt that doesn't fit is an error, not cut in half. Like num_ctx, this decides how llama-server is started; so it
# is in every request that generates, and in the one that loads the model: another value would load the model again.
UNSHIFTED = {"shift": False}
# Ollama's names of what a model can do.
CHATS, EMBEDS, THINKS, TOOLS, SEES = "completion", "embedding", "thinking", "tools", "vision"


class Ollama:
    """Ollama's API, for the served model.

    prefix: of the paths of chat and embed; one other than Ollama's own is that of a gateway in front of Ollama.
    headers: of every request.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        url: str | None = None,
        prefix: str = "/api",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        parts = urlsplit(url or settings.ollama_host)
        self._host, self._port = parts.hostname or "", parts.port or 11434
        self.pool = Pool(self._host, self._port)
        self._prefix, self.chat_path, self.embed_path = prefix, f"{prefix}/chat", f"{prefix}/embed"
        self.model, self._headers = settings.model, headers or {}
        # What the model is loaded with: a request with other values would load it again.
        self._options = {"num_ctx": settings.context_length, "num_thread": settings.threads}

    def payload(self, options: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """Return a request body for the model, which stays loaded afterwards; the options come last."""
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
        """Send `payload` (None: a GET; bytes: as they are), and return the reply once its status is known to be 200.

        timeout: seconds for the whole exchange. Raises a ServiceError or ClientGone.
        """
        message, deadline = self._message(path, payload, headers or {}), time.monotonic() + timeout
        reply = self._send(message, client, deadline)
        if path in (self.chat_path, self.embed_path):  # their head comes with the first result
            self.pool.heard = time.monotonic()
        return reply

    def _send(self, message: bytes, client: ClientConnection, deadline: float) -> Reply:
        if sock := self.pool.take(client, deadline):
            with contextlib.suppress(_Stale):
                return self._exchange(sock, message, kept=True)
            self.pool.forget()  # the others are just as old
        return self._exchange(self.pool.connect(client, deadline, stale=sock is not None), message)

    def ask(self, path: str, payload: Any = None, *, timeout: float) -> dict[str, Any]:
        """Return the whole answer to one of the gateway's own requests; raises as request() does."""
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
        """Return the model's entry in /api/ps, None if it isn't in memory. Raises a ServiceError."""
        return running_of(self._entry("/api/ps", timeout))

    def show(self, timeout: float) -> Fields:
        """Return the answer of /api/show. Raises a ServiceError."""
        return self.ask("/api/show", {"model": self.model}, timeout=timeout)

    def describe(self, shown: Fields, timeout: float) -> ModelFacts:
        """Return the model's facts; shown: the answer of show(). Raises a ServiceError."""
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
        """Say whether the engine that broke off an exchange is still alive, and not replaced by a new one.

        patience: seconds to get through to it; after that, something other than the engine breaks connections. Behind
        another gateway the answer is always True: that gateway checks the engine itself.
        """
        until = time.monotonic() + patience
        while True:
            self.pool.forget()
            try:
                return self._prefix != "/api" or self.holds_model()  # a new one has no model loaded
            except GenerationTimeout:
                return True  # a dead one refuses connections, a new one answers at once
            except EngineDied:
                if time.monotonic() >= until:
                    return True
                time.sleep(LOOK_AGAIN)
            except ServiceError:
                return False
            finally:
                self.pool.forget()  # so that the next try makes a new connection

    def holds_nothing(self) -> bool:
        """Say whether Ollama itself is gone, or a new one, which has no model in memory."""
        try:
            return not self.ask("/api/ps", timeout=LOOK_TIMEOUT).get("models")
        except ServiceError:
            return True

    def generate_one(self, chat: bool, timeout: float) -> None:
        """Have the model generate one token, or embed one if it can't `chat`. Raises a ServiceError."""
        if chat:
            messages = [{"role": "user", "content": "Hi"}]
            payload = self.payload({"num_predict": 1}, messages=messages, stream=False, think=False, **UNSHIFTED)
            self.ask(self.chat_path, payload, timeout=timeout)
        else:
            self.ask(self.embed_path, self.payload(input="Hi"), timeout=timeout)

    def unload(self, timeout: float) -> None:
        """Have Ollama stop its llama-server as soon as that has no requests. Raises a ServiceError."""
        self.ask("/api/generate", {"model": self.model, "keep_alive": 0}, timeout=timeout)

    def _message(self, path: str, payload: Any, headers: Mapping[str, str]) -> bytes:
        """Return the request as one piece, so that it is sent and received at once."""
        body = payload if isinstance(payload, bytes) else b"" if payload is None else encode(payload)
        head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: {with_port(self._host, self._port)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in {**self._headers, **headers}.items())
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


class _Stale(Exception):
    """A kept connection was closed by the other side before it answered anything."""


def loading(payload: Mapping[str, Any], capabilities: Collection[str]) -> tuple[str, dict[str, Any]]:
    """Return the path and body of a request that loads a model such that no later request loads it again.

    payload: the model's name and options, as in all requests. capabilities: of the model; generating nothing loads a
    chat model, embedding nothing an embedding model.
    """
    if CHATS in capabilities:
        return "/api/generate", {**payload, **UNSHIFTED}
    return "/api/embed", {**payload, "input": []}


def encode(payload: Any) -> bytes:
    """Return a request body as bytes."""
    return json.dumps(payload).encode()
