"""Which requests may have killed the engine: tried one at a time, so that the one that did is found and not sent again.

Every request that was with the engine when it died is a suspect. Suspects are sent again one by one, the newest first;
one that gets its whole answer is cleared, one that is alone with the engine when it dies again is the culprit. Knows
neither HTTP nor Ollama; everything but `Run.wait` runs on the clock it is given.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MEMORY = 600.0  # seconds that a suspicion, and a conviction, is remembered after its last death
KNOWN = 1024  # suspects remembered; the oldest is forgotten first
TRIAL = 3.0  # seconds in which nothing else is sent after a suspect; until its first piece, if that comes later
ALONE = 10.0  # seconds that a suspect waits for harmless answers to end, so that it is tried with nothing beside it
LONGEST_TRIAL = 30.0  # seconds after which others are sent again whatever the suspect does


class Culprit(Exception):
    """This request has killed the engine twice, the second time alone with it.

    first: whether nobody has told of its latest death before.
    """

    def __init__(self, *, first: bool = False) -> None:
        super().__init__("the engine died of it twice")
        self.first = first


@dataclass
class _Suspicion:
    deaths: int
    latest: float
    sent: float = 0.0  # before its latest death
    convicted: bool = False


class Run:
    """One sending of a request: it waits for its turn, is with the engine, and ends."""

    def __init__(self, suspects: "Suspects", fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.with_engine = self.begun = False
        self.since, self.deaths, self.epoch = 0.0, 0, 0
        self._suspects = suspects
        self.waits_since = suspects._clock()

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for its turn and say whether it has come. Raises Culprit."""
        return self._suspects._wait(self, timeout)

    def send(self) -> None:
        """Note that the request goes to the engine now."""
        self.since, self.with_engine = self._suspects._clock(), True

    def unsent(self) -> None:
        """Note that it has not reached the engine: whatever happens there, it isn't to blame."""
        self.with_engine = False

    def progress(self) -> None:
        """Note that the first piece of the answer has come."""
        self.begun = True

    def died(self, *, again: bool = False) -> bool:
        """End because the engine died, or wait `again`; say whether nobody has told of this death before.

        Raises Culprit.
        """
        return self._suspects._died(self, again)

    def end(self, *, answered: bool) -> None:
        """End; a whole answer clears the request. A second call does nothing."""
        self._suspects._end(self, answered)


class Suspects:
    """The requests that are with the engine or about to be, and what is held against each kind of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._changed = clock, threading.Condition()
        self._known: OrderedDict[str, _Suspicion] = OrderedDict()
        self._waiting: list[Run] = []
        self._running: list[Run] = []
        self._deaths = 0

    def run(self, fingerprint: str) -> Run:
        """Return a run of the request with this fingerprint, which takes its place among those that wait."""
        run = Run(self, fingerprint)
        with self._changed:
            self._waiting.append(run)
        return run

    def convict(self, fingerprint: str) -> None:
        """Remember a request as a culprit, because whoever stands nearer to the engine says so."""
        with self._changed:
            self._suspect(fingerprint).convicted = True
            self._changed.notify_all()

    def _wait(self, run: Run, timeout: float) -> bool:
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_turn(run), timeout):
                return False
            suspicion = self._suspicion(run.fingerprint)
            run.deaths = suspicion.deaths if suspicion else 0
            run.epoch, run.since = self._deaths, self._clock()
            self._waiting.remove(run)
            self._running.append(run)
            return True

    def _has_turn(self, run: Run) -> bool:
        """Say whether a run may go: suspects first, the newest of them before the others, and one at a time."""
        self._refuse_culprit(run)
        if any(other.epoch < self._deaths or self._is_on_trial(other) for other in self._running):
            return False  # the first are dead, which their threads are about to find out
        known = {other: suspicion for other in self._waiting if (suspicion := self._suspicion(other.fingerprint))}
        if not known:
            return True
        if run is not max(known, key=lambda other: known[other].sent):
            return False
        if not self._running:
            return True
        # Beside those that do no harm by all appearances it isn't alone, but long answers needn't end for it. One that
        # killed again beside such, or such a one itself, is next tried with nothing else.
        patient = self._clock() - run.waits_since >= ALONE
        return patient and known[run].deaths == 1 and all(map(self._is_settled, self._running))

    def _is_on_trial(self, run: Run) -> bool:
        if run.deaths > 1:
            return self._clock() - run.since < LONGEST_TRIAL
        return run.deaths == 1 and not self._is_settled(run)

    def _is_settled(self, run: Run) -> bool:
        age = self._clock() - run.since
        return age >= LONGEST_TRIAL or (run.begun and age >= TRIAL)

    def _died(self, run: Run, again: bool) -> bool:
        with self._changed:
            first = run.epoch == self._deaths
            if first:
                self._deaths += 1
                self._blame([other for other in self._running if other.with_engine])
            self._leave(run)
            self._refuse_culprit(run, first=first)
            if again:
                run.with_engine = run.begun = False
                run.waits_since = self._clock()
                self._waiting.append(run)
            return first

    def _blame(self, runs: list[Run]) -> None:
        since = {run.fingerprint: run.since for run in runs}
        for fingerprint, sent in since.items():
            suspicion = self._suspect(fingerprint)
            suspicion.deaths, suspicion.latest, suspicion.sent = suspicion.deaths + 1, self._clock(), sent
            suspicion.convicted = suspicion.convicted or (suspicion.deaths > 1 and len(since) == 1)

    def _end(self, run: Run, answered: bool) -> None:
        with self._changed:
            if answered:
                self._known.pop(run.fingerprint, None)
            self._leave(run)

    def _leave(self, run: Run) -> None:
        for runs in (self._waiting, self._running):
            if run in runs:
                runs.remove(run)
        self._changed.notify_all()

    def _suspect(self, fingerprint: str) -> _Suspicion:
        suspicion = self._suspicion(fingerprint) or _Suspicion(0, self._clock())
        self._known[fingerprint] = suspicion
        self._known.move_to_end(fingerprint)
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return suspicion

    def _suspicion(self, fingerprint: str) -> _Suspicion | None:
        suspicion = self._known.get(fingerprint)
        if suspicion and self._clock() - suspicion.latest >= MEMORY:
            del self._known[fingerprint]
            return None
        return suspicion

    def _refuse_culprit(self, run: Run, *, first: bool = False) -> None:
        suspicion = self._suspicion(run.fingerprint)
        if suspicion and suspicion.convicted:
            self._leave(run)
            raise Culprit(first=first)
