"""The form of errors in each dialect, selected by the request's path."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import has_request_context, request

from service.errors import PromptTooLong, QuotaExceeded, ServiceError, Unauthorized

FIELD = re.compile(r"([A-Za-z_$][\w$.\[\]-]*): ")  # a field's name at the start of a message
Body = dict[str, Any]

OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
# OpenAI's own codes, which its clients look for.
OPENAI_CODES = {
    PromptTooLong.code: "context_length_exceeded",
    QuotaExceeded.code: "rate_limit_exceeded",
    Unauthorized.code: "invalid_api_key",
}
ANTHROPIC_HEADER = "anthropic-version"  # always sent by Anthropic's clients
ANTHROPIC_TYPES = OPENAI_TYPES | {
    408: "timeout_error",
    413: "request_too_large",
    503: "overloaded_error",
    504: "timeout_error",
}


def ours(error: ServiceError) -> Body:
    """Return an error in the form of `/generate` and the private port."""
    return error.body()


def openai(error: ServiceError) -> Body:
    """Return an error in OpenAI's form, with the field at fault in `param`; its clients only show the message."""
    kind = OPENAI_TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    named = FIELD.match(error.message)
    code = OPENAI_CODES.get(error.code, error.code)
    param = named.group(1) if named else None
    return {"error": {"message": _with_hint(error), "type": kind, "param": param, "code": code, "hint": error.hint}}


def ollama(error: ServiceError) -> Body:
    """Return an error in Ollama's form: a sentence."""
    return {"error": _with_hint(error)}


def anthropic(error: ServiceError) -> Body:
    """Return an error in Anthropic's form; agents recognise by its wording that a conversation is too long."""
    kind = ANTHROPIC_TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    message = _with_hint(error)
    if isinstance(error, PromptTooLong):
        kind, tokens = "invalid_request_error", error.tokens
        message = f"prompt is too long: {'{} tokens > {} maximum'.format(*tokens) if tokens else message}"
    return {"type": "error", "error": {"type": kind, "message": message}}


def _with_hint(error: ServiceError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message


@dataclass(frozen=True)
class Form:
    """A dialect's form of errors. statuses: those that differ from ours, by code.

    id_field, id_header: where the dialect's clients look for the request's id, in an error and in every answer.
    """

    body: Callable[[ServiceError], Body]
    statuses: Mapping[str, int] = field(default_factory=dict)
    id_field: str = ""
    id_header: str = "X-Request-Id"

    def status(self, error: ServiceError) -> int:
        """Return the HTTP status of an error."""
        return self.statuses.get(error.code, error.status)

    def told(self, error: ServiceError, request_id: str) -> Body:
        """Return the body of an error."""
        return self.body(error) | ({self.id_field: request_id} if self.id_field else {})

    def id_headers(self, request_id: str) -> dict[str, str]:
        """Return the headers with the request's id."""
        return {"X-Request-Id": request_id, self.id_header: request_id}


TOO_LONG = {PromptTooLong.code: 400}
ANTHROPIC = Form(anthropic, TOO_LONG, id_field="request_id", id_header="Request-Id")
FORMS = {
    "/v1/messages": ANTHROPIC,
    "/v1": Form(openai, TOO_LONG),
    "/api": Form(ollama, TOO_LONG),
}
OURS = Form(ours)


def form_of(path: str) -> Form:
    """Return the form of errors at a path, which need not exist: its prefix tells the dialect.

    `/v1/models` belongs to OpenAI and Anthropic: a header of the current request tells which.
    """
    if path.startswith("/v1/models") and has_request_context() and ANTHROPIC_HEADER in request.headers:
        return FORMS["/v1/messages"]
    return next((form for start, form in FORMS.items() if path == start or path.startswith(f"{start}/")), OURS)
