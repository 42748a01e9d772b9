"""Errors between the gateway and the engine, translated into what a caller can act on."""

import json
import logging
import re
from typing import Any

from service.errors import EngineFailed, EngineUnavailable, InvalidRequest, PromptTooLong, ServiceError, named
from service.request_log import said

log = logging.getLogger("sluice")

RETRY_AFTER = 5.0  # seconds; roughly a restart of Ollama and the load of a small model
# The parts of an engine's error that may be logged: the rest may quote a prompt or an answer.
SAYABLE = re.compile(
    r"llama-server process (?:has terminated|no longer running)|exit status \d+|signal: \w+|unexpected EOF"
    r"|insufficient memory|out of memory|failed to allocate|no space left on device|exceeds file size"
    r"|unknown model architecture: '[\w-]+'|not found|server busy|timed out|connection (?:refused|reset)"
    r"|context canceled|deadline exceeded|parse grammar|invalid tool call arguments|panic|unexpectedly stopped"
)
SEND_AGAIN = "the request can be sent again"
# What Ollama says when llama-server ends during a request (Completion, Chat and Embedding in llm/llama_server.go of
# v0.32.15); a llama-server that ends while it loads the model "has terminated", for every request. An error begins with
# these words: further on it may quote what a caller had the model write.
SERVER_DIED = (
    "model runner has unexpectedly stopped",
    "an error was encountered while running the model",
    "error reading llama-server",
    "do embedding request",
    "error reading embed response",
)
# The same if it had ended, or was being loaded, before the request reached it.
SERVER_AWAY = (
    "llama-server process no longer running",
    "connection refused",
    "server not responding",
    "unexpected server status",
)
# The same for an invalid request, with Ollama's name of the field at fault: see Question.ask().
CALLERS_FAULT = {
    "format: the model server can't follow this schema": (
        "invalid format",
        "grammar",
        "json schema",
        "json_schema",
    ),
    "images: the model can't read an image": ("multimodal", "failed to load image", "bitmap", "mtmd", "image data"),
    "model: it chats, and can't embed": ("support embeddings",),
    "model: it can't chat": ("support chat", "support generate"),
    "tools: the model does not support tools": ("support tools",),
    "think: the model does not support thinking": ("support thinking",),
    "messages: the model's template has no place for these roles in this order": (
        "roles must alternate",
        "must be at the beginning",
        "role not su",
    ),
}
NO_ROOM = ("memory", "failed to allocate", "allocation failed")
TOO_LONG = re.compile(r"\((\d+) tokens\) exceeds the available context size \((\d+) tokens\)")
# Errors that quote what the model wrote: harmony/harmonyparser.go, and llama.cpp's common/chat.cpp.
QUOTING = re.compile(r"(error parsing tool call|Failed to parse input)\b.*", re.DOTALL)
ALSO_TOO_LONG = ("exceeds the context length", "available context size", "longer than the context length")


class EngineDown(EngineUnavailable):
    """Nothing listens at the engine's address: the request was not sent."""


class EngineDied(EngineFailed):
    """The exchange ended early.

    `told`: Ollama reports that its llama-server died. `cut`: the gateway ended it. `reported`: by a pod's gateway.
    """

    def __init__(
        self,
        message: str = "the model server broke off",
        *,
        told: bool = False,
        cut: bool = False,
        reported: bool = False,
    ) -> None:
        super().__init__(message, hint=SEND_AGAIN, retry_after=RETRY_AFTER)
        self.told, self.cut, self.reported = told, cut, reported


def upstream_error(error: Exception, *, cut: bool = False) -> EngineDied:
    """Return the error for an exchange with Ollama that ended early, and log what ended it."""
    if not cut:
        log.warning("the exchange with Ollama ended early: %s", said(error))
    return EngineDied(cut=cut)


def answers_oddly(error: Exception) -> EngineFailed:
    """Return the error for an answer that violates Ollama's API, and log what is wrong with it."""
    log.warning("unexpected answer from Ollama: %s", said(error))
    return EngineFailed("the model server answered what it shouldn't", hint=SEND_AGAIN, retry_after=RETRY_AFTER)


def answered_error(status: int, body: bytes, retry_after: str | None = None) -> ServiceError:
    """Return the error for an answer that isn't a 200; `retry_after` is its header."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, TypeError, KeyError):
        error = body.decode(errors="replace")
    return reported_error(status, error, retry_after)


def reported_error(status: int, error: Any, retry_after: str | None = None) -> ServiceError:
    """Return the error for the value of `error`: Ollama's text, or our own form, sent by a gateway or a proxy."""
    if isinstance(error, dict) and "code" in error:
        seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
        return named(status, str(error["code"]), str(error.get("message")), error.get("hint"), seconds)
    return engine_error(status, error if isinstance(error, str) else json.dumps(error))


def error_in_stream(line: dict[str, Any]) -> ServiceError:
    """Return the error of a stream's last line; a gateway in a pod doesn't restart a stream that has begun."""
    reported = reported_error(500, line["error"])
    from_gateway = isinstance(line["error"], dict) and isinstance(reported, EngineFailed)
    return EngineDied(reported.message, reported=bool(line.get("died"))) if from_gateway else reported


def engine_error(status: int, text: str) -> ServiceError:
    """Translate an error of Ollama's; its text reaches the caller only if the caller can act on it."""
    text = QUOTING.sub(r"\1", own_words(text))
    died = status >= 500 and text.startswith(SERVER_DIED)
    if not died and (callers := _callers_fault(status, text)):
        return callers
    known = ", ".join(dict.fromkeys(SAYABLE.findall(text)))
    log.error("Ollama answered %d: %s", status, known or "with an error whose text is withheld; see its own log")
    if died or text.startswith(SERVER_AWAY):
        return EngineDied("the model server failed", told=died)
    return _own_fault(status, text)


def own_words(text: str) -> str:
    """Return llama-server's message if Ollama passes on its whole JSON answer as a text."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, TypeError, LookupError):
        return text


def _callers_fault(status: int, text: str) -> ServiceError | None:
    if found := TOO_LONG.search(text):
        return PromptTooLong.counted(int(found[1]), int(found[2]))
    if any(words in text for words in ALSO_TOO_LONG):
        return PromptTooLong("the prompt has more tokens than the model's context", hint="shorten it")
    if status in (400, 500, 501):  # 500: what Ollama itself detects; 501: what llama-server doesn't support
        for message, signs in CALLERS_FAULT.items():
            if any(sign in text.lower() for sign in signs):
                return InvalidRequest(message, hint="sent again it would fail again")
    return InvalidRequest(text) if status in (400, 501) else None


def _own_fault(status: int, text: str) -> ServiceError:
    if status == 404:
        return EngineUnavailable("the model is not in the model server's store", retry_after=RETRY_AFTER)
    if "unknown model architecture" in text:
        return EngineUnavailable("the model needs a newer model server", retry_after=RETRY_AFTER)
    if status == 503 or any(words in text for words in NO_ROOM):
        return EngineUnavailable("the model server has no room for this now", retry_after=RETRY_AFTER)
    return EngineFailed("the model server failed", hint=SEND_AGAIN, retry_after=RETRY_AFTER)
