"""Requests that left the engine without their answer: it may compute them all the same, and be stuck with one."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

LEFT = 512  # remembered; those of which there are others of the same kind are forgotten first
LATE = 1.0  # seconds for which a piece of an answer may lie unread: one read right after a request left may be older


@dataclass(frozen=True)
class Leaver:
    """A request that left; `on_trial`: it was a suspect when it was sent."""

    fingerprint: str
    sent: float
    left: float
    on_trial: bool


class Leavers:
    """Those that left since the engine was last `heard` of. Not locked: whoever uses it is."""

    def __init__(self, heard: Callable[[], float]) -> None:
        self._heard = heard
        self._left: deque[Leaver] = deque()

    def add(self, leaver: Leaver) -> None:
        """Remember one."""
        self._forget_cleared()
        self._left.append(leaver)
        if len(self._left) > LEFT:
            kinds = Counter(known.fingerprint for known in self._left)
            self._left.remove(next((known for known in self._left if kinds[known.fingerprint] > 1), self._left[0]))

    def all(self) -> list[Leaver]:
        """Return those after whom the engine wasn't heard of."""
        self._forget_cleared()
        return list(self._left)

    def _forget_cleared(self) -> None:
        """Forget those that left before the engine was heard of: they stand in the order in which they left."""
        since = self._heard() - LATE
        while self._left and self._left[0].left < since:
            self._left.popleft()

    def acquit(self, before: float) -> None:
        """Forget those that left `before` the engine was asked something that it has done since."""
        self._left = deque(leaver for leaver in self._left if leaver.left >= before)

    def clear(self) -> None:
        """Forget all, because there is a new engine."""
        self._left.clear()
