"""Requests that ended without their answer: the engine may still compute them, and be stuck with one."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

LEFT = 512  # remembered; those with the same fingerprint as another are dropped first
LATE = 1.0  # seconds that a piece of an answer may stay unread: one read just after a request left may be older


@dataclass(frozen=True)
class Leaver:
    """A request that left; `on_trial`: it was already suspected when it was sent."""

    fingerprint: str
    sent: float
    left: float
    on_trial: bool


class Leavers:
    """The requests that left since the engine was last `heard`. Not thread-safe: the user must hold a lock."""

    def __init__(self, heard: Callable[[], float]) -> None:
        self._heard = heard
        self._left: deque[Leaver] = deque()

    def add(self, leaver: Leaver) -> None:
        """Add a request."""
        self._forget_cleared()
        self._left.append(leaver)
        if len(self._left) > LEFT:
            kinds = Counter(known.fingerprint for known in self._left)
            self._left.remove(next((known for known in self._left if kinds[known.fingerprint] > 1), self._left[0]))

    def all(self) -> list[Leaver]:
        """Return the requests since whose leaving the engine wasn't heard."""
        self._forget_cleared()
        return list(self._left)

    def _forget_cleared(self) -> None:
        """Drop the requests that left before the engine was heard; they are sorted by that time."""
        since = self._heard() - LATE
        while self._left and self._left[0].left < since:
            self._left.popleft()

    def acquit(self, before: float) -> None:
        """Drop the requests that left `before` the engine got a task that it has done since."""
        self._left = deque(leaver for leaver in self._left if leaver.left >= before)

    def clear(self) -> None:
        """Drop all, because the engine is a new one."""
        self._left.clear()
