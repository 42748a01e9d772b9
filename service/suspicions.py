"""What is held against each kind of request, by its fingerprint: bounded, and forgotten in time."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MEMORY = 600.0  # seconds that a suspicion, and a conviction, is remembered after its last death
KNOWN = 1024  # suspects remembered; the oldest is forgotten first


class Culprit(Exception):
    """This request has killed the engine twice, the second time alone with it.

    first: whether nobody has told of its latest death before.
    """

    def __init__(self, *, first: bool = False) -> None:
        super().__init__("the engine died of it twice")
        self.first = first


@dataclass
class Suspicion:
    """How often the engine died, or got stuck, with a request of this kind; `sent`: when, before the latest time."""

    deaths: int
    latest: float
    sent: float = 0.0
    convicted: bool = False


class Suspicions:
    """The suspicions of the last minutes. Not locked: whoever uses it is."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: OrderedDict[str, Suspicion] = OrderedDict()

    def get(self, fingerprint: str) -> Suspicion | None:
        """Return what is held against a kind of request, if anything is."""
        suspicion = self._known.get(fingerprint)
        if suspicion and self._clock() - suspicion.latest >= MEMORY:
            del self._known[fingerprint]
            return None
        return suspicion

    def clear(self, fingerprint: str) -> None:
        """Forget what was held against a kind of request."""
        self._known.pop(fingerprint, None)

    def has_convicted(self, fingerprint: str) -> bool:
        """Say whether a kind of request is known as a culprit."""
        suspicion = self.get(fingerprint)
        return suspicion is not None and suspicion.convicted

    def convict(self, fingerprint: str) -> None:
        """Remember a kind of request as a culprit."""
        self._suspect(fingerprint).convicted = True

    def blame(self, sent: Mapping[str, float]) -> None:
        """Hold a death against every request that may have caused it, with when each was sent.

        One that was suspected before, and is the only one now, is the culprit.
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
