"""What goes wrong between us and the engine, as the caller can act on it."""

import json
import logging
import re
from typing import Any

from service.errors import EngineFailed, EngineUnavailable, InvalidRequest, PromptTooLong, ServiceError, named
from service.record import said

log = logging.getLogger("sluice")

RETRY_AFTER = 5.0  # seconds; about what a restart of Ollama and the load of a small model take
# What of an engine's error may be logged: all else may quote a prompt or an answer.
SAYABLE = re.compile(
    r"(?:runner|llama-server) process (?:has terminated|exited)|exit status \d+|signal: \w+|unexpected EOF"
    r"|more system memory|out of memory|no space left on device|unable to load model|not found|server busy|timed out"
    r"|connection (?:refused|reset)|context canceled|deadline exceeded|parse grammar|parsing tool call|panic"
    r"|unexpectedly stopped|no longer running"
)
SEND_AGAIN = "the request can be sent again"
# What Ollama 0.17.4 and 0.32.15 say when the model's runner has ended under a request (llm/server.go and
# llm/llama_server.go); one that ends while it loads the model is "no longer running", whoever asks.
RUNNER_DIED = (
    "unexpectedly stopped",
    "error was encountered while running the model",
    "error reading llm response",
    "do embedding request",
)
# The same for a request that they can't follow, and answer with a 500; by the field that is at fault.
CALLERS_FAULT = {
    "response_format: the model server can't follow this schema": (
        "in format",
        "required for format",
        "invalid format",
        "grammar",
        "json schema",
        "json_schema",
    ),
    "images: the model can't read an image": ("failed to process inputs", "image", "mtmd", "multimodal"),
}


class EngineDown(EngineUnavailable):
    """Nothing answers at the engine's address: the request was not sent."""


class EngineDied(EngineFailed):
    """The exchange ended early. `told`: the engine says itself that its runner died. `cut`: we broke it off."""

    def __init__(self, message: str = "the model server broke off", *, told: bool = False, cut: bool = False) -> None:
        super().__init__(message, hint=SEND_AGAIN, retry_after=RETRY_AFTER)
        self.told, self.cut = told, cut


def broke_off(error: Exception, *, cut: bool = False) -> EngineDied:
    """Return the error for an exchange with Ollama that ended early, and log what ended it."""
    if not cut:
        log.warning("Ollama broke off: %s", said(error))
    return EngineDied(cut=cut)


def answers_oddly(error: Exception) -> EngineFailed:
    """Return the error for an answer of Ollama's that isn't what its API says, and log what is wrong with it."""
    log.warning("Ollama answers oddly: %s", said(error))
    return EngineFailed("the model server answered what it shouldn't", hint=SEND_AGAIN, retry_after=RETRY_AFTER)


def answered_error(status: int, body: bytes, retry_after: str | None = None) -> ServiceError:
    """Return the error for an answer that isn't a 200; `retry_after` is its header."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, TypeError, KeyError):
        error = body.decode(errors="replace")
    return reported_error(status, error, retry_after)


def reported_error(status: int, error: Any, retry_after: str | None = None) -> ServiceError:
    """Return the error for what stands under `error`: Ollama's text, or our own form, sent by a gateway or a proxy."""
    if isinstance(error, dict) and "code" in error:
        seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
        return named(status, str(error["code"]), str(error.get("message")), error.get("hint"), seconds)
    return engine_error(status, error if isinstance(error, str) else json.dumps(error))


def error_in_stream(error: Any) -> ServiceError:
    """Return the error for one that breaks off a stream; a gateway behind us sends no stream again that has begun."""
    reported = reported_error(500, error)
    from_gateway = isinstance(error, dict) and isinstance(reported, EngineFailed)
    return EngineDied(reported.message) if from_gateway else reported


def engine_error(status: int, text: str) -> ServiceError:
    """Translate an error of Ollama's; its text reaches the caller only where the caller can act on it."""
    if "exceeds the context length" in text or "input length" in text:
        return PromptTooLong("the prompt has more tokens than the model's context", hint="shorten it")
    if status in (400, 501):  # 501: a model that can't do what was asked, such as embeddings
        return InvalidRequest(text)
    known = ", ".join(dict.fromkeys(SAYABLE.findall(text)))
    log.error("Ollama answered %d: %s", status, known or "nothing that may be logged; its own log says more")
    if any(words in text for words in RUNNER_DIED):
        return EngineDied("the model server failed", told=True)
    if status == 404:
        return EngineUnavailable("the model is not in the model server's store", retry_after=RETRY_AFTER)
    if status == 503 or "memory" in text or "failed to load, " in text:
        return EngineUnavailable("the model server has no room for this now", retry_after=RETRY_AFTER)
    for message, signs in CALLERS_FAULT.items():
        if any(sign in text.lower() for sign in signs):
            return InvalidRequest(message, hint="sent again it would fail again")
    return EngineFailed("the model server failed", hint=SEND_AGAIN, retry_after=RETRY_AFTER)
