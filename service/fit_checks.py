"""Checks against JSON schemas, one at a time in a process of its own (fit_checker.py): answers' before new schemas'."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from service import fit_checker
from service.errors import InvalidRequest

TOO_HARD = "takes too long, or too much memory, to check"


class Turns:
    """Lets one check run at a time, since each may take as much memory as fit_checker.py allows.

    An answer holds a slot until it is checked, so it waits for other answers only, however many schemas do.
    """

    def __init__(self) -> None:
        self._changed, self._taken = threading.Condition(), False
        self.answers = 0  # that wait

    @contextmanager
    def take(self, *, answer: bool) -> Iterator[None]:
        """Wait for a turn, and have it until the block ends. answer: whether an answer is checked."""
        with self._changed:
            self.answers += answer
            self._changed.wait_for(lambda: not self._taken and (answer or not self.answers))
            self.answers -= answer
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()


TURNS = Turns()


def complaints(checks: Sequence[tuple[Any, list[Any]]], field: str) -> list[str]:
    """Return what is wrong with each schema or its values; raises InvalidRequest, which names `field`."""
    command, asked = [sys.executable, "-I", fit_checker.__file__], json.dumps(checks).encode()
    with TURNS.take(answer=any(values for _schema, values in checks)):
        done = subprocess.run(command, input=asked, capture_output=True, check=False)
    if done.returncode:
        raise InvalidRequest(f"{field}: {TOO_HARD}")
    found: list[str] = json.loads(done.stdout)
    return found
