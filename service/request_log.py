"""The log line of a request, which never contains the prompt, the answer or a key."""

import json
import logging
import time
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from service.settings import SettingError

log = logging.getLogger("sluice.request")

UNSAID = ("arrived", "trace_headers", "pod_release")
RELEASE_HEADER = "Sluice-Release"  # which release answered: a pod's, or a front's and that of the pod behind it
FRAMES = 30  # the innermost of a traceback


@dataclass
class RequestLog:
    """What is known of a request so far. Times are in milliseconds since its arrival.

    key: its name, never the key itself. slot_ms: how long it held a slot, in the process that has the slots.
    """

    request_id: str
    method: str
    path: str
    status: int = 0
    error: str | None = None
    key: str | None = None
    priority: str | None = None
    model: str | None = None
    queued_ms: float | None = None
    first_token_ms: float | None = None
    slot_ms: float | None = None
    total_ms: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None
    arrived: float = field(default_factory=time.monotonic, repr=False)
    trace_headers: dict[str, str] = field(default_factory=dict, repr=False)  # W3C's, for who is asked next
    pod_release: str = field(default="", repr=False)  # of the pod that answered, if this is a front

    def elapsed_ms(self) -> float:
        """Return the milliseconds since the request arrived."""
        return round((time.monotonic() - self.arrived) * 1000, 3)

    def release_header(self, own: str) -> dict[str, str]:
        """Return the header that says which release answered. own: this process's, nothing if it isn't known."""
        return {RELEASE_HEADER: f"{own} {self.pod_release}".rstrip()} if own else {}

    def write(self) -> None:
        """Write the log line."""
        self.total_ms = self.elapsed_ms()
        known = {key: value for key, value in vars(self).items() if value is not None and key not in UNSAID}
        log.info("request", extra={"fields": known})


def said(error: BaseException) -> str:
    """Return an error's class, and its message if that can't quote a prompt or an answer."""
    sayable = isinstance(error, SettingError | ImportError) or (isinstance(error, OSError) and error.errno is not None)
    return f"{type(error).__name__}: {error}" if sayable else type(error).__name__


class JsonFormatter(logging.Formatter):
    """Formats every log record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line: time, level, message, the fields of a request, the traceback of an error."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)

    def formatException(self, ei: Any) -> str:
        """Return where an error and its causes occurred, without messages that may quote a request."""
        parts, seen, error = [], set[int](), ei[1]
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            parts.append("".join(traceback.format_tb(error.__traceback__, -FRAMES)) + said(error))
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\nled to\n".join(reversed(parts))
