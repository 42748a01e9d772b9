"""Pods that generate: their slots slow each other, and the next request goes to the one with the fewest."""

import heapq
from dataclasses import dataclass, field

from planning.speeds import Speeds
from service.admission import Ticket


@dataclass(slots=True, eq=False)
class Job:
    """A request; prompt and answer in tokens, times in seconds on the simulation's clock."""

    index: int
    prompt: float
    answer: float
    ticket: Ticket
    pod: "Pod | None" = None
    over: bool = False


@dataclass(slots=True, eq=False)
class Pod:
    """Reads prompts, all that there are together, while its answers stand still; then writes these, one token each.

    That is what a step of llama.cpp is: one token of each answer, and all prompts in pieces of 512 tokens. Progress is
    counted once a pod, not once a request: each ends when the pod's count has come to its own mark.
    """

    speeds: Speeds
    decode: list[float]
    connections: int = 0
    version: int = 0
    _since: float = 0.0
    _read: float = 0.0
    _written: float = 0.0
    _prompts: list[tuple[float, int, Job]] = field(default_factory=list)
    _answers: list[tuple[float, int, Job]] = field(default_factory=list)

    def joining(self, *, at_an_end: bool) -> float:
        """Return the seconds until a request that comes now is taken up.

        at_an_end: it comes in place of one that has just ended, as the next step began and not somewhere in it.
        """
        token = 1 / self.decode[len(self._answers)]
        if not at_an_end or not self.speeds.joining:
            return self.speeds.joining * token
        return max(0.0, (self.speeds.joining + 0.5) * token - self.speeds.overhead)

    def start(self, job: Job, now: float) -> None:
        """Begin with a request's prompt, or with its answer where it has none."""
        self._advance(now)
        job.answer -= self.speeds.given
        if job.prompt:
            heapq.heappush(self._prompts, (self._read + job.prompt, job.index, job))
        else:
            self._write(job)

    def next_end(self, now: float) -> float | None:
        """Return when the next prompt or answer is through if nothing changes; None while there is none."""
        if self._prompts:
            return now + (self._prompts[0][0] - self._read) * len(self._prompts) / self.speeds.prefill
        if self._answers:
            return now + (self._answers[0][0] - self._written) / self.decode[len(self._answers)]
        return None

    def end(self, now: float) -> Job | None:
        """Let the next end happen, which is due now; return the request if it was the end of its answer."""
        self._advance(now)
        if not self._prompts:
            return heapq.heappop(self._answers)[2]
        self._write(heapq.heappop(self._prompts)[2])
        return None

    def drop(self, job: Job, now: float) -> None:
        """Give up a request that has run for too long."""
        self._advance(now)
        for marks in (self._prompts, self._answers):
            marks[:] = [mark for mark in marks if mark[2] is not job]
            heapq.heapify(marks)

    def _write(self, job: Job) -> None:
        heapq.heappush(self._answers, (self._written + job.answer, job.index, job))

    def _advance(self, now: float) -> None:
        if self._prompts:
            self._read += (now - self._since) * self.speeds.prefill / len(self._prompts)
        elif self._answers:
            self._written += (now - self._since) * self.decode[len(self._answers)]
        self._since = now


class Pods:
    """All pods by how many requests they have, so that the one with the fewest is found at once."""

    def __init__(self, replicas: int, slots: int, speeds: Speeds) -> None:
        decode = speeds.decode_with(slots)
        self._by_connections: list[dict[Pod, None]] = [{} for _ in range(slots + 1)]
        self._by_connections[0] = {Pod(speeds, decode): None for _ in range(replicas)}

    def take(self) -> Pod:
        """Return the pod with the fewest requests, which has one more now."""
        pods = next(pods for pods in self._by_connections if pods)
        pod, _ = pods.popitem()
        self._place(pod, pod.connections + 1)
        return pod

    def give_back(self, pod: Pod) -> None:
        """Count one request less of a pod."""
        del self._by_connections[pod.connections][pod]
        self._place(pod, pod.connections - 1)

    def _place(self, pod: Pod, connections: int) -> None:
        pod.connections = connections
        self._by_connections[connections][pod] = None
