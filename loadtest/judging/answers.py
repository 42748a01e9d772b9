"""The answers of a release to the smoke's questions, as loadtest/smoke.js logs them: a line of JSON each."""

import json
import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

FEWEST_TOKENS = 6  # of an answer whose speed counts: that of shorter ones is mostly noise
LONGEST_REASON = 60  # characters, of what may be a release's own words
MOST_SLOTS = 1000  # that can be busy
TIMES = ("busy_slots", "queued_ms", "first_token_ms", "total_ms")  # as POST /generate tells them


class Outcome(StrEnum):
    """What came of a question. BUSY: it was refused as others have the slots, and is asked again."""

    RIGHT = "right"
    WRONG = "wrong"
    FAILED = "failed"
    BUSY = "busy"


@dataclass(frozen=True)
class Answer:
    """An answer, or a refusal.

    question: its place in questions.json. why: it failed. busy_slots: of the pod, rounded. first: seconds from the slot
    to the first token. token: seconds for each of the others. None: not known, or not long enough to tell.
    releases: of the front that answered, and of the pod behind it, as far as they are known.
    """

    outcome: Outcome
    model: str = ""
    question: int = 0
    why: str = ""
    busy_slots: int | None = None
    first: float | None = None
    token: float | None = None
    releases: tuple[str, ...] = ()


def read_answer(line: str) -> Answer | None:
    """Return what a line of the smoke says; None for any other line."""
    try:
        said = json.loads(line)
        outcome = Outcome(said["outcome"])
    except (ValueError, LookupError, TypeError):
        return None
    busy, first, token = _times(said)
    why = re.sub(r"[^\w .:,/()-]", "", str(said.get("why", "")))[:LONGEST_REASON].strip() or "no reason"
    return Answer(
        outcome,
        str(said.get("model", "")),
        int(said.get("question", 0)),
        why if outcome is Outcome.FAILED else "",
        busy,
        first,
        token,
        tuple(str(said.get("release", "")).split()),
    )


def _times(said: dict[str, Any]) -> tuple[int | None, float | None, float | None]:
    """Return the busy slots, and the seconds to the first token and for each other one."""
    try:
        busy, queued, first, total = (float(said[name]) for name in TIMES)
    except (LookupError, TypeError, ValueError):
        return None, None, None
    if not (1 <= busy <= MOST_SLOTS and 0 <= queued < first < total < math.inf):
        return None, None, None
    tokens = int(said.get("tokens", 0))
    token = (total - first) / (tokens - 1) / 1000 if tokens >= FEWEST_TOKENS else None
    return round(busy), (first - queued) / 1000, token
