"""The requests that may have killed the engine: resent one at a time, to find the one that did and to stop sending it.

Every request that was with the engine when it died is a suspect. So is one that left without its answer, until the
engine sends output again, because the engine may still compute it. Suspects are resent one by one, newest first. One
that gets its whole answer is cleared; one that is alone with the engine when it dies again is the culprit. An engine
that is stuck counts as dead. This module knows neither HTTP nor Ollama, and uses the given clock except in `Run.wait`.
"""

import math
import threading
import time
from collections.abc import Callable

from service.leavers import Leaver, Leavers
from service.suspicions import Culprit, Suspicion, Suspicions

TRIAL = 3.0  # seconds after a suspect in which nothing else is sent; longer, if its first piece comes later
ALONE = 10.0  # seconds that a suspect waits for harmless answers to end, to be alone with the engine
LONGEST_TRIAL = 30.0  # seconds after which other requests are sent, whatever the suspect does


class Run:
    """One attempt at a request: it waits for its turn, is with the engine, and ends."""

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
        """Record that the request is being sent, to the engine that is alive now."""
        self._suspects._send(self)

    def unsent(self) -> None:
        """Record that the request didn't reach the engine, so that it isn't blamed for anything."""
        self.with_engine = False

    def progress(self) -> None:
        """Record the first piece of the answer."""
        self.begun = True

    def died(self, *, again: bool = False, cut: bool = False) -> bool:
        """End because the engine died, or wait `again`; say whether this is the first report of that death.

        cut: the exchange was ended by the watch, which found the engine stuck and reported it. Raises Culprit.
        """
        return self._suspects._died(self, again, cut)

    def end(self, *, answered: bool) -> None:
        """End the run; a whole answer clears the request. A second call does nothing."""
        self._suspects._end(self, answered)


class Suspects:
    """The requests that are with the engine or waiting for it, and the suspicions against them.

    heard: returns when the engine last sent output for any request, by `clock`.
    watched: whether a watch is running that makes the engine prove that it works when it is `doubtful`.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, heard: Callable[[], float] = lambda: -math.inf
    ) -> None:
        self._clock, self._heard, self._changed = clock, heard, threading.Condition()
        self._known, self._leavers = Suspicions(clock), Leavers(heard)
        self._reported = Suspicions(clock)
        self._waiting: list[Run] = []
        self._running: list[Run] = []
        self._deaths = 0
        self._restarting = self.watched = False

    def run(self, fingerprint: str) -> Run:
        """Return a waiting run of the request with this fingerprint."""
        run = Run(self, fingerprint)
        with self._changed:
            self._waiting.append(run)
        return run

    def convict(self, fingerprint: str) -> None:
        """Remember a request as a culprit, because a gateway closer to the engine says so."""
        with self._changed:
            self._known.convict(fingerprint)
            self._changed.notify_all()

    def report(self, fingerprint: str) -> None:
        """Record that the engine of another gateway died during a request."""
        with self._changed:
            self._reported.hold(fingerprint, self._reported.deaths(fingerprint) + 1)

    def reported(self, fingerprint: str) -> int:
        """Return how many engines of other gateways died during a request, for the next gateway to suspect() it."""
        with self._changed:
            return self._reported.deaths(fingerprint)

    def suspect(self, fingerprint: str, deaths: int) -> None:
        """Suspect a request because engines of other gateways died during it."""
        with self._changed:
            self._known.hold(fingerprint, deaths)

    def sent(self) -> list[float]:
        """Return the times at which the requests that are with the engine were sent."""
        with self._changed:
            return [run.since for run in self._with_engine()]

    def freed(self, slots: int, before: float) -> float:
        """Return since when the engine has had fewer than `slots` of the requests sent `before`; infinity: not yet."""
        with self._changed:
            spans = [(run.since, math.inf) for run in self._with_engine()]
            spans += [(leaver.sent, leaver.left) for leaver in self._leavers.all()]
        spans = [(sent, left) for sent, left in spans if sent <= before]
        full = (end for _, end in spans if sum(sent < end <= left for sent, left in spans) >= slots)
        return max(full, default=-math.inf)

    def silent_for(self) -> float:
        """Return for how many seconds the engine has been busy and silent."""
        sent = self.sent()
        return self._clock() - max(self._heard(), min(sent)) if sent else 0.0

    @property
    def doubtful(self) -> bool:
        """Say whether nothing is sent until the engine has proven that it works."""
        with self._changed:
            return self._is_doubtful()

    def proven(self, asked: float) -> None:
        """Record that the engine did what it was `asked` at that time: requests that left before didn't block it."""
        with self._changed:
            self._restarting = False
            self._leavers.acquit(asked)
            self._changed.notify_all()

    def stuck(self) -> None:
        """Record that the engine is stuck and being restarted: nothing is sent until it is proven."""
        with self._changed:
            self._hold_death_against_them()
            self._restarting = True

    def _wait(self, run: Run, timeout: float) -> bool:
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_turn(run), timeout):
                return False
            run.deaths, run.since = self._known.deaths(run.fingerprint), self._clock()
            self._waiting.remove(run)
            self._running.append(run)
            return True

    def _send(self, run: Run) -> None:
        with self._changed:
            run.epoch, run.since, run.with_engine = self._deaths, self._clock(), True

    def _has_turn(self, run: Run) -> bool:
        """Say whether it is a run's turn: suspects go first, newest first and one at a time."""
        self._refuse_culprit(run)
        if self._is_doubtful() or any(self._is_dead(other) or self._is_on_trial(other) for other in self._running):
            return False
        known = self._suspects_waiting()
        if not known:
            return True
        if run is not max(known, key=lambda other: known[other].sent):
            return False
        if not self._running:
            return True
        # After ALONE seconds, a suspect is tried next to requests that seem harmless, so that these needn't end for it.
        # If the engine dies again then, each of them is next tried completely alone.
        patient = self._clock() - run.waits_since >= ALONE
        return patient and known[run].deaths == 1 and all(map(self._is_settled, self._running))

    def _suspects_waiting(self) -> dict[Run, Suspicion]:
        return {run: suspicion for run in self._waiting if (suspicion := self._known.get(run.fingerprint))}

    def _is_doubtful(self) -> bool:
        """Say whether the engine may already be stuck, so that the next request would get the blame for another one."""
        if not self.watched:
            return False
        left = self._leavers.all()
        on_trial = any(leaver.on_trial for leaver in left)
        return self._restarting or on_trial or bool(left and self._suspects_waiting())

    def _with_engine(self) -> list[Run]:
        return [run for run in self._running if run.with_engine and not self._is_dead(run)]

    def _is_dead(self, run: Run) -> bool:
        """Say whether a run was with an engine that has died, which its thread doesn't know yet."""
        return run.with_engine and run.epoch < self._deaths

    def _is_on_trial(self, run: Run) -> bool:
        if run.deaths > 1:
            return self._clock() - run.since < LONGEST_TRIAL
        return run.deaths == 1 and not self._is_settled(run)

    def _is_settled(self, run: Run) -> bool:
        age = self._clock() - run.since
        return age >= LONGEST_TRIAL or (run.begun and age >= TRIAL)

    def _died(self, run: Run, again: bool, cut: bool) -> bool:
        with self._changed:
            first = run.epoch == self._deaths and not cut and not self._restarting
            if first:
                self._hold_death_against_them()
            self._leave(run)
            self._refuse_culprit(run, first=first)
            if again:
                run.with_engine = run.begun = False
                run.waits_since = self._clock()
                self._waiting.append(run)
            return first

    def _hold_death_against_them(self) -> None:
        left = {leaver.fingerprint: leaver.sent for leaver in self._leavers.all()}
        self._known.blame(left | {run.fingerprint: run.since for run in self._with_engine()})
        self._leavers.clear()
        self._deaths += 1
        self._changed.notify_all()

    def _end(self, run: Run, answered: bool) -> None:
        with self._changed:
            if answered:
                self._known.clear(run.fingerprint)
                self._reported.clear(run.fingerprint)
            elif run in self._with_engine():
                self._leavers.add(Leaver(run.fingerprint, run.since, self._clock(), run.deaths > 0))
            self._leave(run)

    def _leave(self, run: Run) -> None:
        for runs in (self._waiting, self._running):
            if run in runs:
                runs.remove(run)
        self._changed.notify_all()

    def _refuse_culprit(self, run: Run, *, first: bool = False) -> None:
        if self._known.has_convicted(run.fingerprint):
            self._leave(run)
            raise Culprit(first=first)
