"""One stream at a time alongside the scenario: the time to the first token and between tokens, which k6 can't see."""

import asyncio
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from loadtest.plan import Plan

PAUSE = 2.0  # seconds between two streams


@dataclass
class Stream:
    """One streamed answer. `started` in seconds since the epoch; gaps: seconds between tokens; no outcome: cut off."""

    started: float
    outcome: str = ""
    ttft: float | None = None
    gaps: list[float] = field(default_factory=list)


def question(number: int, plan: Plan) -> tuple[str, dict[str, Any]]:
    """Return the path and body of a streamed question that no run of the scenario asks."""
    prompt = f"Stream {number}. What can be seen from a train in {number % 97 + 3} minutes?"
    if plan.api == "ollama":
        options = {"num_predict": plan.max_tokens} if plan.max_tokens else {}
        return "/api/generate", {"model": plan.model, "prompt": prompt, "stream": True, "options": options}
    body = {"prompt": prompt, "stream": True}
    return "/generate", body | ({"max_tokens": plan.max_tokens} if plan.max_tokens else {})


async def probe(plan: Plan, streams: list[Stream], going: Callable[[], bool]) -> None:
    """Add streams, one after the other with a pause between them, for as long as going() is true."""
    # Each is balanced anew, as in the scenarios. This context reads SSL_CERT_FILE now, aiohttp's own on its import.
    connector = aiohttp.TCPConnector(force_close=True, ssl=ssl.create_default_context())
    timeout = aiohttp.ClientTimeout(total=plan.patience)
    async with aiohttp.ClientSession(headers=plan.target.headers(), connector=connector, timeout=timeout) as client:
        while going():
            stream = Stream(time.time())
            streams.append(stream)
            path, body = question(len(streams), plan)
            wait = await _read(client, plan.target.url + path, body, stream)
            await asyncio.sleep(max(wait, PAUSE * plan.time_scale))


async def _read(client: aiohttp.ClientSession, url: str, body: dict[str, Any], stream: Stream) -> float:
    """Read one stream; return how many seconds a refusal asks for."""
    try:
        async with client.post(url, json=body) as reply:
            told = reply.headers.get("Retry-After", "")
            if reply.status in (429, 503) and told.isdigit():
                stream.outcome = "refused"
                return float(told)
            stream.outcome = await _read_tokens(reply, stream) if reply.status == 200 else "error"
    except TimeoutError:
        stream.outcome = "timeout"
    except (aiohttp.ClientError, ValueError):
        stream.outcome = "error"
    return 0


async def _read_tokens(reply: aiohttp.ClientResponse, stream: Stream) -> str:
    """Take the times of the tokens, and return the outcome."""
    last = None
    async for line in reply.content:
        piece, now = json.loads(line), time.time()
        if piece.get("response"):
            if last is None:
                stream.ttft = now - stream.started
            else:
                stream.gaps.append(now - last)
            last = now
        if piece.get("done") and (piece.get("finish_reason") or piece.get("done_reason")) in ("stop", "length"):
            return "answered" if last else "bad_answer"
    return "bad_answer"
