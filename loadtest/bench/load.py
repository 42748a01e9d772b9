"""Clients for the benchmark: closed-loop, open-loop, and one that looks at each piece of a stream."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import aiohttp


class Request(NamedTuple):
    """A URL, a JSON body, and headers."""

    url: str
    body: dict[str, Any]
    headers: Mapping[str, str] = MappingProxyType({})

    def with_key(self, key: str) -> Self:
        """Return the request with an API key."""
        return self._replace(headers={"Authorization": f"Bearer {key}"})


@dataclass(frozen=True)
class Result:
    """One answer. Times are in seconds: `sent` since the start of the run, `took` to the last byte."""

    status: int
    sent: float
    took: float
    retry_after: str | None


@asynccontextmanager
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a client without a limit on connections."""
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as client:
        yield client


async def ask(client: aiohttp.ClientSession, request: Request, started: float) -> Result:
    """Send one request and read its whole answer; a broken connection counts as status 0."""
    sent = time.perf_counter()
    try:
        async with client.post(request.url, json=request.body, headers=request.headers) as reply:
            await reply.read()
            status, retry_after = reply.status, reply.headers.get("Retry-After")
    except aiohttp.ClientError:
        status, retry_after = 0, None
    return Result(status, sent - started, time.perf_counter() - sent, retry_after)


async def open_loop(requests: Sequence[Request], rate: float, seconds: float) -> list[list[Result]]:
    """Send `rate` requests a second whatever comes back, each kind in turn; return the results of each kind.

    A latency counts from when the request was due, so that a late client can't hide a slow server.
    """
    async with session() as client:
        started = time.perf_counter()
        tasks: list[list[asyncio.Task[Result]]] = [[] for _ in requests]
        for index in range(int(rate * seconds)):
            due = started + index / rate
            await asyncio.sleep(max(0, due - time.perf_counter()))
            which = index % len(requests)
            tasks[which].append(asyncio.create_task(ask(client, requests[which], started)))
        return [list(await asyncio.gather(*each)) for each in tasks]


async def closed_loop(request: Request, clients: int, seconds: float) -> float:
    """Return the 200s a second of `clients` that each send the next request when the last is answered."""
    async with session() as http:
        started = time.perf_counter()

        async def run() -> int:
            answered = 0
            while time.perf_counter() - started < seconds:
                answered += (await ask(http, request, started)).status == 200
            return answered

        counts = await asyncio.gather(*(run() for _ in range(clients)))
        return sum(counts) / (time.perf_counter() - started)


async def stream_times(client: aiohttp.ClientSession, request: Request) -> list[float]:
    """Return the seconds from sending to each line of a streamed answer."""
    sent, times = time.perf_counter(), []
    async with client.post(request.url, json=request.body, headers=request.headers) as reply:
        assert reply.status == 200, await reply.text()
        async for line in reply.content:
            if line.strip():
                times.append(time.perf_counter() - sent)
    return times


async def tokens_per_second(requests: Sequence[Request]) -> tuple[float, list[float], list[float]]:
    """Send requests at the same time; return tokens/s of all together, of each, and each time to first token."""
    async with session() as client:
        started = time.perf_counter()
        answers = await asyncio.gather(*(stream_times(client, request) for request in requests))
        total = time.perf_counter() - started
    counts = [len(times) - 1 for times in answers]  # the last line carries no token
    each = [count / times[-1] for count, times in zip(counts, answers, strict=True)]
    return sum(counts) / total, each, [times[0] for times in answers]


def generate(url: str, **body: Any) -> Request:
    """Return a request to the gateway."""
    return Request(f"{url}/generate", {"prompt": "Say something.", **body})


def chat(url: str, model: str, **body: Any) -> Request:
    """Return the same request to Ollama itself."""
    messages = [{"role": "user", "content": "Say something."}]
    return Request(f"{url}/api/chat", {"model": model, "messages": messages, **body})
