"""Questions at times that are settled beforehand, and a client that asks them whatever becomes of those before."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import aiohttp

from launcher.console import say
from loadtest.on_cluster.stages import SECONDS
from loadtest.plan import RETRIES, TIMEOUT

# Seconds, and the load relative to what the pods can do at most: quiet, busy, a little too much, and back.
PHASES = ((90, 0.6), (120, 0.85), (60, 1.1), (120, 0.7))
PATIENCE = TIMEOUT  # seconds a client waits for an attempt
EVERY = 30.0  # seconds between two lines of progress


@dataclass(frozen=True)
class Attempt:
    """One HTTP request. Seconds since 1970."""

    sent: float
    ended: float
    outcome: str


@dataclass
class Question:
    """A question of the trace, due so many seconds after its start, and what became of it."""

    number: int
    due: float
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def prompt(self) -> str:
        """Return the text, by which the engine knows how long the answer takes."""
        return f"Question {self.number}"

    @property
    def key(self) -> str:
        """Return how the engine's lines name the prompt."""
        return sha256(self.prompt.encode()).hexdigest()[:16]

    @property
    def took(self) -> float:
        """Return the seconds until the end of the last attempt."""
        return self.attempts[-1].ended - self.attempts[0].sent

    @property
    def outcome(self) -> str:
        """Return how the last attempt ended: answered, refused, timeout or error."""
        return self.attempts[-1].outcome


def trace(replicas: int, *, scale: float) -> list[Question]:
    """Return the questions for so many pods of one slot: Poisson arrivals, the same in every call."""
    chance, due, began, found = random.Random(replicas), 0.0, 0.0, list[Question]()  # noqa: S311
    for seconds, load in PHASES:
        rate, end = load * replicas / SECONDS, began + seconds
        due = began + chance.expovariate(rate)
        while due < end:
            found.append(Question(len(found), due * scale))
            due += chance.expovariate(rate)
        began = end
    return found


async def replay(name: str, url: str, questions: Sequence[Question], *, scale: float) -> None:
    """Ask each question when it is due, on a connection of its own, and note in it what became of it."""
    started = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=PATIENCE * scale)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(url, timeout=timeout, connector=connector) as session:
        telling = asyncio.create_task(_tell(name, questions))
        async with asyncio.TaskGroup() as tasks:
            for question in questions:
                tasks.create_task(_ask(session, question, started))
        telling.cancel()


async def _ask(session: aiohttp.ClientSession, question: Question, started: float) -> None:
    await asyncio.sleep(started + question.due - time.monotonic())
    for _ in range(1 + RETRIES):
        sent = time.time()
        outcome, wait = await _attempt(session, {"prompt": question.prompt})
        question.attempts.append(Attempt(sent, time.time(), outcome))
        if outcome == "answered":
            return
        await asyncio.sleep(wait)


async def _attempt(session: aiohttp.ClientSession, body: dict[str, Any]) -> tuple[str, float]:
    """Return what became of a request, and the seconds until it may be sent again."""
    try:
        async with session.post("/generate", json=body) as reply:
            text = await reply.text()
            wait = float(reply.headers.get("Retry-After", 0))
            if reply.status in (429, 503) and wait:
                return "refused", wait
            whole = reply.status == 200 and json.loads(text).get("finish_reason") == "stop"
            return ("answered" if whole else "error"), wait
    except TimeoutError:
        return "timeout", 0
    except (aiohttp.ClientError, ValueError):
        return "error", 0


async def _tell(name: str, questions: Sequence[Question]) -> None:
    while True:
        await asyncio.sleep(EVERY)
        asked = [question for question in questions if question.attempts]
        answered = sum(question.outcome == "answered" for question in asked)
        say(f"{name}: {len(questions)} questions, {answered} answered")
