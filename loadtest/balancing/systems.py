"""The systems that are compared: what each did with the trace, and what was done to it."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from loadtest.balancing.disturbances import Churn, Event, kill_proxies
from loadtest.balancing.idle import Idle, Span, busy, idle_while_waiting, waits
from loadtest.balancing.trace import PHASES, Question, replay
from loadtest.on_cluster import deploy

RANDOM, LEAST, SHARED, KILLED, CHURN = "random", "least", "shared", "killed", "churn"


@dataclass
class System:
    """A balancer with its pods, the trace as it went through it, and what was done to it meanwhile."""

    name: str
    namespace: str
    url: str
    replicas: int
    scale: float
    questions: list[Question]
    events: list[Event] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    churn: Churn | None = None
    started: float = 0.0
    ended: float = 0.0

    @property
    def seconds(self) -> float:
        """Return how long questions are asked."""
        return sum(length for length, _ in PHASES) * self.scale

    async def run(self) -> None:
        """Play the trace, with the disturbances."""
        self.started = time.time()
        disturbance: Coroutine[Any, Any, None] | None = None
        if self.name == KILLED:
            disturbance = kill_proxies(self.namespace, seconds=self.seconds, events=self.events)
        elif self.churn:
            disturbance = self.churn.run(replicas=self.replicas, seconds=self.seconds)
        async with asyncio.TaskGroup() as tasks:
            if disturbance:
                tasks.create_task(disturbance)
            tasks.create_task(replay(f"{self.name}-{self.replicas}", self.url, self.questions, scale=self.scale))
        self.ended = time.time()

    def collect(self) -> None:
        """Take in what the engines wrote, each line once."""
        lines = deploy.engine_lines(self.namespace)
        if self.churn:
            self.churn.look()
            lines += self.churn.lines()
        self.lines = list({str(line): line for line in lines}.values())

    def idle(self) -> Idle:
        """Return how long pods were idle while requests waited."""
        always = {line["pod"]: Span(self.started, self.ended) for line in self.lines}
        present = self.churn.present(self.ended) if self.churn else always
        return idle_while_waiting(waits(self.questions, self.lines), busy(self.lines, present), [*present.values()])
