"""Waiting for a condition instead of for a time."""

import threading
import time
from collections.abc import Callable
from typing import Any


def eventually(condition: Callable[[], Any], seconds: float = 10) -> Any:
    """Return the condition's value as soon as it is true; fail if it isn't within `seconds`."""
    until = time.monotonic() + seconds
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < until, "the awaited condition never came"
        pause.wait(0.005)
    return value
