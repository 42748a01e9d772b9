"""Errors as the caller sees them. The text of an internal error stays in the log."""

import math
import re
from collections.abc import Mapping
from typing import Any, Self

OWN_FAULT = "an error of the server's own"
COUNTED = re.compile(r"the prompt has (\d+) tokens, more than the model's context of (\d+)")


class ClientGone(Exception):
    """The client closed its connection: not an error, and nobody is left to answer."""


class ServiceError(Exception):
    """An unsuccessful answer: an HTTP status, a stable code, a sentence and perhaps a hint.

    `retry_after` is in seconds and goes into the Retry-After header, rounded up and at least 1.
    """

    status = 500
    code = "internal_error"
    release = ""  # of the pod whose answer it was, where a front passes it on

    def __init__(self, message: str, *, hint: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message, self.hint, self.retry_after = message, hint, retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that go with this error."""
        return {} if self.retry_after is None else {"Retry-After": str(max(1, math.ceil(self.retry_after)))}

    def body(self) -> dict[str, Any]:
        """Return the JSON body `{"error": {"code", "message", "hint"}}`."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint}}


class ClientClosedRequest(ServiceError):
    """The client closed its connection, or its sending half: nginx's status, for the log and metrics.

    Only a client that closed no more than its sending half can read it.
    """

    status, code = 499, "client_gone"

    def __init__(self, message: str = "") -> None:
        left = "the client stopped sending, which counts as having left: keep the connection open both ways"
        super().__init__(message or left)


class InvalidRequest(ServiceError):
    """The request can't be understood, or asks for something that this server doesn't support."""

    status, code = 400, "invalid_request"

    def rename(self, fields: Mapping[str, str]) -> None:
        """Replace the field's name at the start of the message by the one in `fields`, if any."""
        field, colon, rest = self.message.partition(": ")
        self.message = f"{fields.get(field, field)}{colon}{rest}"


class Unauthorized(ServiceError):
    """No API key, or an unknown one."""

    status, code = 401, "unauthorized"

    @property
    def headers(self) -> dict[str, str]:
        """Return the challenge that a 401 must have."""
        return {"WWW-Authenticate": 'Bearer realm="sluice"'}


class Forbidden(ServiceError):
    """The caller isn't allowed to do this, whether it has a key or not."""

    status, code = 403, "forbidden"


class ModelNotServed(ServiceError):
    """The request names a model that this server doesn't serve."""

    status, code = 404, "model_not_found"


class RequestTimeout(ServiceError):
    """The request didn't arrive within HEAD_TIMEOUT or BODY_TIMEOUT."""

    status, code = 408, "request_timeout"


class BodyTooLarge(ServiceError):
    """The request body exceeds MAX_BODY_BYTES."""

    status, code = 413, "body_too_large"


class PromptTooLong(ServiceError):
    """The text exceeds MAX_PROMPT_CHARS, or its tokens the model's context."""

    status, code = 413, "prompt_too_long"

    @classmethod
    def counted(cls, tokens: int, context: int) -> Self:
        """Return the error for a prompt of `tokens` in a smaller `context`."""
        return cls(f"the prompt has {tokens} tokens, more than the model's context of {context}", hint="shorten it")

    @property
    def tokens(self) -> tuple[int, int] | None:
        """Return the tokens of the prompt and of the context if the message, maybe another gateway's, has them."""
        found = COUNTED.fullmatch(self.message)
        return (int(found[1]), int(found[2])) if found else None


class ImageTooLarge(ServiceError):
    """An image has more pixels than allowed."""

    status, code = 413, "image_too_large"


class KillsEngine(ServiceError):
    """This request has killed the model server twice; no client retries a 422."""

    status, code = 422, "kills_engine"


class Unfit(ServiceError):
    """The model's answers don't match the requested schema; no client retries a 422."""

    status, code = 422, "unfit_answer"


class QuotaExceeded(ServiceError):
    """A client exceeds its own quota; others are still served."""

    status, code = 429, "quota_exceeded"


class Saturated(ServiceError):
    """Every slot is busy, and the queue is full or too slow for this request."""

    status, code = 503, "saturated"


class EngineUnavailable(ServiceError):
    """Ollama can't be reached, or has no room for the model at present."""

    status, code = 503, "engine_unavailable"


class EngineFailed(ServiceError):
    """Ollama ended an exchange early, or violated its API."""

    status, code = 502, "engine_failed"


class GenerationTimeout(ServiceError):
    """The answer took longer than GENERATION_TIMEOUT."""

    status, code = 504, "generation_timeout"


def of_http(status: int, name: str, message: str) -> ServiceError:
    """Return the error for an HTTP status, with its name as the code: "Not Found" is `not_found`."""
    error = ServiceError(message)
    error.status, error.code = status, name.lower().replace(" ", "_")
    return error


def named(status: int, code: str, message: str, hint: str | None, retry_after: float | None) -> ServiceError:
    """Return an error that another gateway sent in our form, unchanged."""
    kind = next((kind for kind in ServiceError.__subclasses__() if kind.code == code), ServiceError)
    error = kind(message, hint=hint, retry_after=retry_after)
    error.status, error.code = status if kind is ServiceError else kind.status, code
    return error
