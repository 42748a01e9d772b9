"""Errors as each dialect writes them."""

from typing import Any


def error_of(reply: Any) -> dict[str, Any]:
    """Return the error after a check of its form."""
    assert set(reply.json) == {"error"}
    assert set(reply.json["error"]) - {"type", "param"} == {"code", "message", "hint"}  # those are OpenAI's
    assert reply.headers["X-Request-Id"]
    error: dict[str, Any] = reply.json["error"]
    return error


def ollama_error_of(reply: Any) -> str:
    """Return the error's text after a check of its form."""
    assert set(reply.json) == {"error"}
    error: str = reply.json["error"]
    return error
