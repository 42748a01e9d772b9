"""What the launcher tells the person in front of it: lines, progress, and problems of one line each."""

import errno
import sys
import time
from typing import Self


class Problem(Exception):
    """Something the launcher can't go on with; the message is one line that says what to do."""


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def is_no_space(error: OSError) -> bool:
    """Say whether a disk or a quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class Progress:
    """How far a block of code is: a line redrawn on a terminal, lines now and then elsewhere.

    The block's end prints how long it took; its failure leaves the line for the problem's own.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._terminal = sys.stdout.isatty()
        self._interval = 0.2 if self._terminal else 10.0  # seconds between two lines
        self._start, self._end = ("\r", "\x1b[K") if self._terminal else ("", "\n")  # \x1b[K clears the line's rest

    def __enter__(self) -> Self:
        say(f"{self._label} …")
        self._started = self._shown = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            say(f"{self._start}  done in {time.monotonic() - self._started:.0f} s" + self._end.strip())
        elif self._terminal:
            say("")

    def amount(self, done: int, total: int) -> None:
        """Show `done` of `total` bytes; a total of 0 isn't known."""
        self.show(f"{100 * done // total} % of {megabytes(total)}" if total else megabytes(done))

    def show(self, state: str) -> None:
        """Show a state in words, unless the last one is too fresh."""
        now = time.monotonic()
        if now - self._shown >= self._interval:
            self._shown = now
            print(f"{self._start}  {state}, {now - self._started:.0f} s", end=self._end, flush=True)


def megabytes(count: int) -> str:
    """Return a size in bytes as people read it."""
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
