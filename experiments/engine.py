#!/usr/bin/env python3
"""A stand-in for the program `ollama`, for experiments: it speaks Ollama's API, and sleeps where Ollama computes.

As Ollama does, it runs OLLAMA_NUM_PARALLEL requests at once, lets the others wait without bound, and drops those whose
client has left. How long a request takes is drawn from its prompt, so every system gets the same work for the same
prompt. It writes one JSON line a request, times in seconds since 1970, and one when it starts and when it ends.

From the environment: OLLAMA_HOST, OLLAMA_NUM_PARALLEL, and
ENGINE_SECONDS  mean seconds of a request that has a slot to itself
ENGINE_VARIATION  their standard deviation beside the mean; the distribution is lognormal, cut at 3 x the mean
ENGINE_LOAD_SECONDS  seconds the first request waits for the model
ENGINE_CPUS  CPUs that a running request really uses: 0 sleeps only
"""

import asyncio
import contextlib
import json
import math
import os
import random
import signal
import sys
import time
from hashlib import sha256
from typing import Any, NamedTuple

TOKENS = 32  # of an answer, at even distances
LONGEST = 3  # x the mean: in real life max_tokens ends an answer
STEP = 0.1  # seconds; of each, a request computes for its share and sleeps for the rest
VERSION = "0.32.15"


class Request(NamedTuple):
    """A request's line and its JSON body."""

    path: str
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        """Return what was asked, whichever way it came."""
        messages = self.body.get("messages") or [{}]
        return str(self.body.get("prompt") or messages[-1].get("content") or "")


class Reader(asyncio.StreamReader):
    """A connection's incoming side that tells when the client has left, without reading further."""

    def __init__(self) -> None:
        super().__init__()
        self.left = asyncio.Event()

    def feed_eof(self) -> None:
        """Take note of the client's end of sending."""
        super().feed_eof()
        self.left.set()

    def set_exception(self, exc: Exception) -> None:
        """Take note of a reset."""
        super().set_exception(exc)
        self.left.set()


class Engine:
    """The server: its slots, the model it holds, and its figures, from the environment."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.mean = float(environ.get("ENGINE_SECONDS", "12"))
        self.variation = float(environ.get("ENGINE_VARIATION", "0.5"))
        self.load_seconds = float(environ.get("ENGINE_LOAD_SECONDS", "0"))
        self.cpus = float(environ.get("ENGINE_CPUS", "0"))
        self.address = environ.get("OLLAMA_HOST") or "127.0.0.1:11434"
        self.pod = environ.get("HOSTNAME", "")
        self.models: set[str] = set()
        self._slots = asyncio.Semaphore(int(environ.get("OLLAMA_NUM_PARALLEL", "1")))
        self._loading = asyncio.Lock()
        self._stopping = asyncio.Event()

    async def serve(self) -> None:
        """Serve until SIGTERM, at which every answer is cut at once, as Ollama does."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        host, _, port = self.address.rpartition(":")
        server = await loop.create_server(self._protocol, host, int(port), backlog=1024)
        self.log(event="up", at=time.time(), port=server.sockets[0].getsockname()[1])
        await self._stopping.wait()
        server.close()
        running = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self.log(event="down", at=time.time())

    def log(self, **fields: Any) -> None:
        """Write a line."""
        print(json.dumps({"pod": self.pod, **fields}), flush=True)

    def seconds(self, prompt: str) -> float:
        """Return how long an answer to `prompt` takes, the same in every process."""
        spread = math.log(1 + self.variation**2)
        drawn = random.Random(prompt).lognormvariate(math.log(self.mean) - spread / 2, math.sqrt(spread))  # noqa: S311
        return min(drawn, LONGEST * self.mean)

    def _protocol(self) -> asyncio.StreamReaderProtocol:
        reader = Reader()
        return asyncio.StreamReaderProtocol(reader, lambda _, writer: self._connection(reader, writer))

    async def _connection(self, reader: Reader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection, one after the other, until the client leaves."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not reader.left.is_set():
                request = await read(reader)
                answer = asyncio.create_task(self._answer(request, writer))
                leaving = asyncio.create_task(reader.left.wait())
                try:
                    await asyncio.wait({answer, leaving}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    leaving.cancel()
                    answer.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await answer
        writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path in ("/api/chat", "/api/generate"):
            await self._load(request)
            if request.prompt:
                await self._generate(request, writer)
                return
        if request.path == "/api/embed":
            await self._load(request)
        reply = self._replies(request).get(request.path)
        send(writer, 404 if reply is None else 200, {"error": "not found"} if reply is None else reply)
        await writer.drain()

    def _replies(self, request: Request) -> dict[str, Any]:
        models = [{"name": name, "model": name} for name in sorted(self.models)]
        return {
            "/": "Ollama is running",
            "/api/version": {"version": VERSION},
            "/api/tags": {"models": models},
            "/api/ps": {"models": models},
            "/api/show": {"capabilities": ["completion"]},
            "/api/embed": {"embeddings": [], "prompt_eval_count": 0},
            "/api/chat": {"done": True, "done_reason": "load", "message": {"role": "assistant", "content": ""}},
            "/api/generate": {"done": True, "done_reason": "load", "response": ""},
        }

    async def _load(self, request: Request) -> None:
        name = str(request.body.get("model"))
        async with self._loading:
            if name not in self.models:
                await asyncio.sleep(self.load_seconds)
                self.models.add(name)

    async def _generate(self, request: Request, writer: asyncio.StreamWriter) -> None:
        """Wait for a slot and answer, and write the line of it, however it ends."""
        key = sha256(request.prompt.encode()).hexdigest()[:16]
        line = {"event": "request", "key": key, "arrived": time.time(), "started": None, "outcome": "left"}
        try:
            async with self._slots:
                line["started"] = time.time()
                await self._run(request, writer)
                line["outcome"] = "complete"
        finally:
            if self._stopping.is_set() and line["outcome"] != "complete":
                line["outcome"] = "cut"
            self.log(**line, ended=time.time())

    async def _run(self, request: Request, writer: asyncio.StreamWriter) -> None:
        wanted = request.body.get("options", {}).get("num_predict", -1)
        count = min(TOKENS, wanted) if wanted > 0 else TOKENS
        each = self.seconds(request.prompt) / TOKENS
        started = time.monotonic()
        stream = request.body.get("stream", True)
        if stream:
            writer.write(head(200, "application/x-ndjson", "Transfer-Encoding: chunked"))
        for number in range(1, count + 1):
            await self._compute(started + number * each)
            if stream:
                writer.write(chunk({**content(request, "word "), "done": False}))
                await writer.drain()
        reason = "length" if count < TOKENS else "stop"
        last = {"done": True, "done_reason": reason, "prompt_eval_count": 8, "eval_count": count}
        if stream:
            writer.write(chunk({**content(request, ""), **last}) + b"0\r\n\r\n")
        else:
            send(writer, 200, {**content(request, "word " * count), **last})
        await writer.drain()

    async def _compute(self, until: float) -> None:
        """Take the time until then, with the share of a CPU that is set."""
        while (left := until - time.monotonic()) > 0:
            step = min(left, STEP)
            busy = time.process_time() + step * self.cpus
            while time.process_time() < busy:
                pass
            await asyncio.sleep(step * (1 - self.cpus))


async def read(reader: asyncio.StreamReader) -> Request:
    """Return the next request; raises IncompleteReadError at the end of the connection."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    fields = {name.strip().lower(): value for name, _, value in (line.partition(":") for line in lines[1:])}
    body = await reader.readexactly(int(fields.get("content-length", 0)))
    return Request(lines[0].split()[1], json.loads(body or b"{}"))


def head(status: int, content_type: str, length: str) -> bytes:
    """Return an answer's head; length: the header that says where the body ends."""
    return f"HTTP/1.1 {status} -\r\nContent-Type: {content_type}\r\n{length}\r\n\r\n".encode()


def send(writer: asyncio.StreamWriter, status: int, reply: Any) -> None:
    """Write a whole answer: text as it is, anything else as JSON."""
    body = reply.encode() if isinstance(reply, str) else json.dumps(reply).encode()
    content_type = "text/plain" if isinstance(reply, str) else "application/json"
    writer.write(head(status, content_type, f"Content-Length: {len(body)}") + body)


def chunk(message: dict[str, Any]) -> bytes:
    """Return a message as a line of a stream, framed as HTTP wants it."""
    line = json.dumps(message).encode() + b"\n"
    return f"{len(line):x}\r\n".encode() + line + b"\r\n"


def content(request: Request, text: str) -> dict[str, Any]:
    """Return a piece of an answer the way the request's path has it."""
    model = request.body.get("model")
    if request.path == "/api/generate":
        return {"model": model, "response": text}
    return {"model": model, "message": {"role": "assistant", "content": text}}


if __name__ == "__main__":
    if sys.argv[1:] != ["serve"]:
        sys.exit("this stand-in for ollama knows one command: serve")
    asyncio.run(Engine(dict(os.environ)).serve())
