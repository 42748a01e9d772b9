"""JSON that the model writes: only what every client can read, and the gateway can write again, counts as JSON."""

import json
import math
from typing import Any

MAX_DEPTH = 200  # levels of lists and objects: Python stops at about 1,000, and what follows is called from deeper
NO_JSON = "is no JSON"


def read_answer(text: str) -> Any:
    """Return the JSON in an answer; raises ValueError if it is none, or nested too deeply."""
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError(NO_JSON) from None
    if not is_flat(value):
        raise ValueError(NO_JSON)
    return value


def is_flat(value: Any) -> bool:
    """Say whether a JSON value has at most MAX_DEPTH levels."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        nested = [each for each in level if isinstance(each, dict | list)]
        if not nested:
            return True
        level = [inner for each in nested for inner in (each.values() if isinstance(each, dict) else each)]
    return False


def _refuse(text: str) -> float:
    raise ValueError(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
