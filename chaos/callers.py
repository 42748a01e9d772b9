"""Honest callers: an open loop of requests, and what became of each."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp

ANSWERED = "answered"
REFUSED = "refused with Retry-After"
ERROR = "told of an error"  # a status of its own, without Retry-After
BROKEN = "broken off with an error object"
CUT = "cut off, which the client reports"  # the connection ended before the answer's HTTP framing did
SILENT = "broken off silently"  # a clean end, and the answer isn't complete
LOST = "lost without an answer"
UNTOLD = (CUT, SILENT, LOST)
KINDS = (ANSWERED, REFUSED, ERROR, BROKEN, *UNTOLD)


@dataclass(frozen=True)
class Outcome:
    """What became of a request. Times are seconds by time.monotonic(); detail: the error's code, or what was seen."""

    kind: str
    sent: float
    took: float
    status: int = 0
    detail: str = ""

    @property
    def ended(self) -> float:
        """Return when the last byte came."""
        return self.sent + self.took


async def ask(client: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> Outcome:
    """Send one request and read its whole answer."""
    sent, status, read = time.monotonic(), 0, b""
    try:
        async with client.post(f"{url}/generate", json=body) as reply:
            status = reply.status
            async for piece in reply.content.iter_any():
                read += piece
            kind, detail = judge(status, "Retry-After" in reply.headers, read)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        told = status == 200 and b'{"error"' in read.rpartition(b"\n{")[2]
        kind = BROKEN if told else CUT if status == 200 else LOST
        detail = type(error).__name__
    return Outcome(kind, sent, time.monotonic() - sent, status, detail)


def judge(status: int, comes_back: bool, body: bytes) -> tuple[str, str]:
    """Return what a whole answer is, and its error's code."""
    try:
        last = json.loads(body.strip().rpartition(b"\n")[2])
        code = str(last["error"]["code"]) if "error" in last else ""
    except (ValueError, TypeError, KeyError):
        return (SILENT if status == 200 else LOST), "not in our form"
    if status == 200:
        complete = last.get("done") or "finish_reason" in last
        return (BROKEN, code) if code else (ANSWERED, "") if complete else (SILENT, "")
    return (REFUSED if comes_back else ERROR if code else LOST), code


def question(number: int) -> dict[str, Any]:
    """Return an honest caller's request, no two the same; every second one is streamed."""
    return {"prompt": f"Question {number}: say something.", "stream": bool(number % 2), "max_tokens": 16}


@dataclass
class Load:
    """An open loop at `rate` requests/s from a thread of its own, for as long as a block runs.

    Each caller has a connection to itself and gives up after `patience` seconds. The block's end waits for answers.
    """

    url: str
    rate: float
    patience: float = 60
    question: Callable[[int], dict[str, Any]] = question
    headers: Mapping[str, str] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    sent: int = 0

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="callers")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=self.patience)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=self.headers)
        async with session as client, asyncio.TaskGroup() as group:
            started = time.monotonic()
            while not self._over.is_set():
                await asyncio.sleep(max(0.0, started + self.sent / self.rate - time.monotonic()))
                self.sent += 1
                group.create_task(self._ask(client, self.sent))

    async def _ask(self, client: aiohttp.ClientSession, number: int) -> None:
        self.outcomes.append(await ask(client, self.url, self.question(number)))

    def since(self, start: float) -> list[Outcome]:
        """Return what became of the requests that were under way or sent from then on, as far as it is known."""
        return [each for each in list(self.outcomes) if each.ended >= start]

    def is_normal(self, seconds: float) -> bool:
        """Say whether every request that was sent in the last seconds but one has been answered."""
        now = time.monotonic()
        recent = [each for each in list(self.outcomes) if each.ended > now - seconds]
        return len(recent) >= max(1, 0.7 * self.rate * seconds) and all(each.kind == ANSWERED for each in recent)


def seconds_until_answer(outcomes: Iterable[Outcome], since: float) -> float | None:
    """Return how long after `since` the first request that was sent after it had its answer."""
    ends = [each.ended for each in outcomes if each.kind == ANSWERED and each.sent >= since]
    return min(ends) - since if ends else None


def seconds_until_normal(outcomes: Iterable[Outcome], since: float) -> float | None:
    """Return how long after `since` the first request was sent from which on all were answered; None: never yet."""
    ordered = sorted(outcomes, key=lambda each: each.sent)
    bad = [each.sent for each in ordered if each.kind != ANSWERED]
    if all(each.ended <= since for each in ordered if each.kind != ANSWERED):
        return 0.0
    good = [each.sent for each in ordered if each.kind == ANSWERED and each.sent > bad[-1]]
    return max(0.0, good[0] - since) if good else None


def words(outcomes: Iterable[Outcome]) -> str:
    """Return the counts of each kind, with the codes of errors: `31 answered, 2 told of an error (504)`."""
    counts = Counter(each.kind for each in outcomes)
    found: dict[str, set[str]] = {}
    for each in outcomes:
        if each.kind in (REFUSED, ERROR):
            found.setdefault(each.kind, set()).add(str(each.status))
    told = {kind: f" ({', '.join(sorted(codes))})" for kind, codes in found.items()}
    return ", ".join(f"{counts[kind]} {kind}{told.get(kind, '')}" for kind in KINDS if counts[kind]) or "nothing"
