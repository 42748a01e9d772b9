"""The suspicions against requests, by fingerprint: bounded in number and time."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MEMORY = 600.0  # seconds that a suspicion or conviction is remembered after its last death
KNOWN = 1024  # suspects remembered; the oldest is dropped first


class Culprit(Exception):
    """This request has killed the engine twice, the second time while alone with it.

    first: whether this is the first report of the latest death.
    """

    def __init__(self, *, first: bool = False) -> None:
        super().__init__("the engine died of it twice")
        self.first = first


@dataclass
class Suspicion:
    """How often the engine died or got stuck with such a request; `sent`: its time, before the latest death."""

    deaths: int
    latest: float
    sent: float = 0.0
    convicted: bool = False


class Suspicions:
    """The suspicions of the last minutes. Not thread-safe: the user must hold a lock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: OrderedDict[str, Suspicion] = OrderedDict()

    def get(self, fingerprint: str) -> Suspicion | None:
        """Return the suspicion against a fingerprint, if any."""
        suspicion = self._known.get(fingerprint)
        if suspicion and self._clock() - suspicion.latest >= MEMORY:
            del self._known[fingerprint]
            return None
        return suspicion

    def deaths(self, fingerprint: str) -> int:
        """Return how often the engine died or got stuck with such a request."""
        suspicion = self.get(fingerprint)
        return suspicion.deaths if suspicion else 0

    def clear(self, fingerprint: str) -> None:
        """Drop the suspicion against a fingerprint."""
        self._known.pop(fingerprint, None)

    def has_convicted(self, fingerprint: str) -> bool:
        """Say whether a fingerprint is a culprit's."""
        suspicion = self.get(fingerprint)
        return suspicion is not None and suspicion.convicted

    def convict(self, fingerprint: str) -> None:
        """Remember a fingerprint as a culprit's."""
        self._suspect(fingerprint).convicted = True

    def hold(self, fingerprint: str, deaths: int) -> None:
        """Remember that engines died at least `deaths` times with such a request, which may not be why."""
        suspicion = self._suspect(fingerprint)
        suspicion.deaths, suspicion.latest = max(suspicion.deaths, deaths), self._clock()

    def blame(self, sent: Mapping[str, float]) -> None:
        """Blame a death on every request that may have caused it; sent: the time of each, by fingerprint.

        A previous suspect that is now the only one is the culprit.
        """
        for fingerprint, when in sent.items():
            suspicion = self._suspect(fingerprint)
            suspicion.deaths, suspicion.latest, suspicion.sent = suspicion.deaths + 1, self._clock(), when
            suspicion.convicted = suspicion.convicted or (suspicion.deaths > 1 and len(sent) == 1)

    def _suspect(self, fingerprint: str) -> Suspicion:
        suspicion = self.get(fingerprint) or Suspicion(0, self._clock())
        self._known[fingerprint] = suspicion
        self._known.move_to_end(fingerprint)
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return suspicion
