"""The queue before the pods on a virtual clock: who waits how long, who is refused, when each answer is complete."""

import heapq
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from planning.pods import Job, Pod, Pods
from planning.speeds import Speeds
from planning.workload import Numbers, Trace
from service.admission import Admission, Refused

TICK = 1e-6  # seconds; added to a deadline so that rounding can't leave a request waiting just before it


@dataclass(frozen=True, kw_only=True)
class System:
    """What serves: replicas of so many slots each behind one queue. queue_timeout, generation_timeout: seconds."""

    replicas: int
    slots: int
    speeds: Speeds
    queue_timeout: float
    generation_timeout: float


@dataclass
class Outcome:
    """What became of the requests that count. waits, latencies: seconds, of those that were answered."""

    waits: Numbers
    latencies: Numbers
    arrived: int
    refused: int
    timed_out: int
    utilisation: float
    most_at_once: int

    @property
    def unanswered(self) -> float:
        """Return the share that was refused or ran into its deadline, 0 to 1."""
        return (self.refused + self.timed_out) / self.arrived

    def p95_wait(self) -> float:
        """Return the seconds in the queue that 95 % of the answered don't exceed."""
        return float(np.percentile(self.waits, 95)) if len(self.waits) else float("inf")

    def p95_latency(self) -> float:
        """Return the same of the seconds from arrival to the whole answer."""
        return float(np.percentile(self.latencies, 95)) if len(self.latencies) else float("inf")


@dataclass
class Simulation:
    """One run. The first `warm_up` requests fill the system and don't count."""

    system: System
    trace: Trace
    warm_up: int = 0
    now: float = 0.0
    _events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = field(default_factory=list)
    _order: int = 0
    _waiting: deque[Job] = field(default_factory=deque)
    _waits: list[float] = field(default_factory=list)
    _latencies: list[float] = field(default_factory=list)
    _held: float = 0.0
    _most: int = 0
    _refused: int = 0
    _timed_out: int = 0

    def run(self) -> Outcome:
        """Run until every request has its answer or its refusal."""
        system, trace = self.system, self.trace
        slots = system.replicas * system.slots
        self._admission = Admission(
            slots=slots, max_queue=sys.maxsize, max_wait=system.queue_timeout, clock=lambda: self.now
        )
        self._pods = Pods(system.replicas, system.slots, system.speeds)
        self._arrivals = trace.arrivals.tolist()
        self._jobs = list(zip(trace.prompts.tolist(), trace.answers.tolist(), strict=True))
        self._at(self._arrivals[0], self._arrive, 0)
        while self._events:
            self.now, _, act, arguments = heapq.heappop(self._events)
            act(*arguments)
        counted = len(self._arrivals) - self.warm_up
        seconds = self._arrivals[-1] - self._arrivals[self.warm_up - 1 if self.warm_up else 0]
        return Outcome(
            waits=np.array(self._waits),
            latencies=np.array(self._latencies),
            arrived=counted,
            refused=self._refused,
            timed_out=self._timed_out,
            utilisation=self._held / (slots * seconds) if seconds else 0.0,
            most_at_once=self._most,
        )

    def _at(self, when: float, act: Callable[..., None], *arguments: Any) -> None:
        self._order += 1
        heapq.heappush(self._events, (when, self._order, act, arguments))

    def _arrive(self, index: int) -> None:
        if index + 1 < len(self._arrivals):
            self._at(self._arrivals[index + 1], self._arrive, index + 1)
        try:
            ticket = self._admission.enter()
        except Refused:
            self._refused += index >= self.warm_up
            return
        self._most = max(self._most, self._admission.in_flight + len(self._waiting))
        job = Job(index, *self._jobs[index], ticket)
        if ticket.granted:
            self._start(job, self._pods.take(), at_an_end=False)
        else:
            self._waiting.append(job)
            self._at(self.now + self.system.queue_timeout + TICK, self._lose_patience, job)

    def _lose_patience(self, job: Job) -> None:
        if job.ticket.granted or job.over:
            return
        try:
            job.ticket.wait(0)
        except Refused:
            job.over = True
            self._refused += job.index >= self.warm_up

    def _start(self, job: Job, pod: Pod, *, at_an_end: bool) -> None:
        job.pod = pod
        self._at(self.now + self.system.generation_timeout, self._run_out, job)
        if delay := pod.joining(at_an_end=at_an_end):
            self._at(self.now + delay, self._begin, job, pod)
        else:
            self._begin(job, pod)

    def _begin(self, job: Job, pod: Pod) -> None:
        if not job.over:
            pod.start(job, self.now)
            self._watch(pod)

    def _watch(self, pod: Pod) -> None:
        """Look again when the pod's next prompt or answer ends; what was expected before is void."""
        pod.version += 1
        if (when := pod.next_end(self.now)) is not None:
            self._at(when, self._end, pod, pod.version)

    def _end(self, pod: Pod, version: int) -> None:
        if version != pod.version:
            return
        job = pod.end(self.now)
        self._watch(pod)
        if job is not None:
            job.over = True
            self._at(self.now + self.system.speeds.overhead, self._release, job, True)

    def _run_out(self, job: Job) -> None:
        if job.over or job.pod is None:
            return
        job.over = True
        job.pod.drop(job, self.now)
        self._watch(job.pod)
        self._release(job, False)

    def _release(self, job: Job, completed: bool) -> None:
        """Count the request; its slot goes to the one that has waited longest, on the same pod."""
        ticket, pod = job.ticket, job.pod
        ticket.release(completed=completed)
        assert pod is not None  # noqa: S101 - only what has started is released
        if job.index >= self.warm_up:
            self._count(job, completed)
        while self._waiting and self._waiting[0].over:
            self._waiting.popleft()
        if self._waiting and self._waiting[0].ticket.granted:
            self._start(self._waiting.popleft(), pod, at_an_end=True)
        else:
            self._pods.give_back(pod)

    def _count(self, job: Job, completed: bool) -> None:
        self._held += self.now - job.ticket.granted_at
        if completed:
            self._waits.append(job.ticket.queued_for)
            self._latencies.append(self.now - job.ticket.entered)
        else:
            self._timed_out += 1
