"""A stand-in for Ollama that speaks its HTTP API, with answers, delays and faults to order.

`python -m tests.stand_in PORT` serves it in a process of its own, for the benchmark.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from service.addresses import with_port
from tests import stand_in_model

MODEL = "stand-in"
NAME = f"{MODEL}:latest"  # as Ollama lists it
# Nanoseconds, in an answer's last line.
DURATIONS = {"load_duration": 2_000_000, "prompt_eval_duration": 70_000_000, "eval_duration": 300_000_000}


def eventually(condition: Callable[[], Any], seconds: float = 10) -> Any:
    """Return the condition's value as soon as it is true; fail if it isn't within `seconds`."""
    until = time.monotonic() + seconds
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < until, "the awaited condition never came"
        pause.wait(0.005)
    return value


@dataclass
class StandIn:
    """The server and its script. Faults and the gate come before the piece with their index."""

    tokens: list[str] = field(default_factory=lambda: ["Hello", ", ", "world"])
    first_delay: float = 0.0
    token_delay: float = 0.0
    hold_at: int | None = None
    die_at: int | None = None
    end_at: int | None = None
    error_at: int | None = None
    error: tuple[int, Any] | None = None
    error_line: Any = "llama-server crashed at 0xdead"
    resets: bool = False  # every connection with the first request on it, as a broken network does
    reset: int = 0
    stuck_by: str = ""  # a text; a chat that has it in its body stalls all chats until the model is unloaded
    unloads: int = 0
    killed_by: str = ""  # a text; a chat that has it in its body kills the server, which comes back by itself
    down_for: float = 0.3
    deaths: int = 0
    cut_kept: bool = False  # break off a chat that comes on a connection that had one before
    message: dict[str, Any] = field(default_factory=dict)
    # The next answers: texts, messages such as those with calls, refusals (status, error, headers), or what makes one
    # of these of the request.
    script: list[Any] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)  # pieces before the tokens, where they are asked for
    always_thinks: bool = False
    capabilities: list[str] = field(default_factory=lambda: ["completion", "vision", "tools", "embedding"])
    template: str = "{{ range .Messages }}{{ .Role }}: {{ .Content }}{{ end }}"
    loaded: bool = True
    requests: list[tuple[str, Any]] = field(default_factory=list)
    cancelled: int = 0
    running: int = 0
    keep_requests: bool = True
    headers: list[Any] = field(default_factory=list)
    peers: set[int] = field(default_factory=set)  # the ports that requests came from
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._gate = asyncio.Event()
        self._stuck = self._dead = False

    def start(self, port: int = 0) -> "StandIn":
        """Serve from a thread until stop(); port 0 takes a free one."""
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(port, started), daemon=True)
        self._thread.start()
        started.wait()
        return self

    def stop(self) -> None:
        """Stop serving and cut every connection."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def release(self) -> None:
        """Let the answers go on that are held at the gate, and all later ones."""
        self._loop.call_soon_threadsafe(self._gate.set)

    def chats(self) -> list[Any]:
        """Return the bodies of the chats asked for."""
        return [body for path, body in self.requests if path == "/api/chat"]

    def _serve(self, port: int, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen(port))
        started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _listen(self, port: int) -> None:
        app = web.Application(client_max_size=64 << 20, middlewares=[self._pass_or_reset])
        app.router.add_post("/api/chat", self._chat)
        app.router.add_post("/api/embed", self._embed)
        app.router.add_post("/api/generate", self._load_or_unload)
        app.router.add_post("/api/show", self._show)
        app.router.add_get("/api/ps", self._ps)
        app.router.add_get("/api/tags", self._tags)
        app.router.add_get("/api/version", self._version)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        await self._open(port)
        self.port: int = self._runner.addresses[0][1]
        self.url = f"http://{with_port(self.host, self.port)}"

    @web.middleware
    async def _pass_or_reset(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self.resets and request.transport is not None:
            self.reset += 1
            request.transport.abort()
        return await handler(request)

    async def _open(self, port: int) -> None:
        self._site = web.TCPSite(self._runner, self.host, port, backlog=1024, reuse_address=True)
        await self._site.start()

    def kill(self) -> None:
        """Die, and come back after `down_for` seconds without the model, as Ollama does under a supervisor."""
        self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._die()))

    async def _die(self) -> None:
        if self._dead:  # of another request at the same time
            return
        self._dead, self.deaths, self.loaded = True, self.deaths + 1, False
        await self._site.stop()
        for connection in list(self._runner.server.connections if self._runner.server else ()):
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(self.down_for)
        self._dead = False  # the next request may come before _open() is through
        await self._open(self.port)

    async def _live_or_die(self, body: Any) -> None:
        if self.killed_by and self.killed_by in json.dumps(body):
            self._dying = self._loop.create_task(self._die())
            await asyncio.sleep(60)

    async def _body(self, request: web.Request) -> Any:
        body = await request.json()
        peer = request.transport.get_extra_info("peername")[1] if request.transport else 0
        if self.cut_kept and peer in self.peers and request.transport:
            request.transport.abort()
        if self.keep_requests:
            self.peers.add(peer)
            self.requests.append((request.path, body))
        return body

    async def _show(self, request: web.Request) -> web.Response:
        await self._body(request)
        return web.json_response(stand_in_model.shown(NAME, self.template, self.capabilities))

    async def _tags(self, _request: web.Request) -> web.Response:
        return web.json_response({"models": [stand_in_model.listed(NAME, self.capabilities)]})

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": stand_in_model.VERSION})

    async def _load_or_unload(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        await self._live_or_die(body)
        if body.get("keep_alive") == -1 and body.get("shift") is False and "prompt" not in body:
            if self.error:
                return web.json_response({"error": self.error[1]}, status=self.error[0])
            self.loaded = True
            return web.json_response({"done": True, "done_reason": "load"})
        if body != {"model": MODEL, "keep_alive": 0}:
            return web.json_response({"error": "the stand-in generates by /api/chat alone"}, status=400)
        self.loaded, self._stuck, self.unloads = False, False, self.unloads + 1
        return web.json_response({"done": True, "done_reason": "unload"})

    async def _get_stuck(self, body: Any) -> None:
        self._stuck = self._stuck or bool(self.stuck_by and self.stuck_by in json.dumps(body))
        while self._stuck:
            await asyncio.sleep(0.01)

    async def _ps(self, request: web.Request) -> web.Response:
        if self.keep_requests:
            self.headers.append(request.headers)
        return web.json_response({"models": [stand_in_model.running(NAME)] if self.loaded else []})

    async def _embed(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        await self._live_or_die(body)
        if self.error:
            return web.json_response({"error": self.error[1]}, status=self.error[0])
        self.loaded = True
        told = {"model": body["model"], "total_duration": 9_000_000, "load_duration": 2_000_000, "prompt_eval_count": 3}
        return web.json_response({**told, "embeddings": [[0.6, 0.8] for _ in body["input"]]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request)
        await self._live_or_die(body)
        if self.error:
            return web.json_response({"error": self.error[1]}, status=self.error[0])
        if self.script and isinstance(self.script[0], tuple):
            status, error, headers = self.script.pop(0)
            return web.json_response({"error": error}, status=status, headers=headers)
        self.running += 1
        try:
            await self._get_stuck(body)
            return await self._generate(request, body)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        except ConnectionError:  # the client left between two writes
            self.cancelled += 1
            return web.Response()
        finally:
            self.running -= 1

    async def _generate(self, request: web.Request, body: Any) -> web.StreamResponse:
        if self.script:
            return await self._play(request, self.script.pop(0), body)
        if body.get("stream") is False:
            await asyncio.sleep(self.first_delay + self.token_delay * len(self.tokens))
            message = {"role": "assistant", "content": "".join(self.tokens)}
            return web.json_response({**self._last(len(self.tokens), body), "model": MODEL, "message": message})
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        tokens = self.tokens[: body.get("options", {}).get("num_predict")]
        for index in range(len(tokens) + 1):
            delay = self.token_delay if index else self.first_delay
            if delay:
                await asyncio.sleep(delay)
            if index == self.hold_at:
                await self._gate.wait()
            if index in (self.die_at, self.end_at):
                return await self._break_off(request, response, clean=index == self.end_at)
            if not response.prepared:
                await response.prepare(request)
                for thought in self.thoughts if body.get("think") or self.always_thinks else ():
                    piece = {
                        "model": MODEL,
                        "message": {**self._piece("")["message"], "thinking": thought},
                        "done": False,
                    }
                    await response.write(json.dumps(piece).encode() + b"\n")
            if index == self.error_at:
                await response.write(json.dumps({"error": self.error_line}).encode() + b"\n")
                return response
            piece = self._piece(tokens[index]) if index < len(tokens) else self._last(len(tokens), body)
            await response.write(json.dumps(piece).encode() + b"\n")
        return response

    async def _play(self, request: web.Request, said: Any, body: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        said = said(body) if callable(said) else said
        message = {"role": "assistant", **({"content": said} if isinstance(said, str) else {"content": "", **said})}
        for line in ({"model": MODEL, "message": message, "done": False}, self._last(1, body)):
            await response.write(json.dumps(line).encode() + b"\n")
        return response

    async def _break_off(self, request: web.Request, response: web.StreamResponse, clean: bool) -> web.StreamResponse:
        if clean:
            if not response.prepared:
                await response.prepare(request)
        elif request.transport is not None:
            request.transport.abort()
        return response

    def _piece(self, token: str) -> dict[str, Any]:
        return {"model": MODEL, "message": {"role": "assistant", "content": token, **self.message}, "done": False}

    def _last(self, count: int, body: Any) -> dict[str, Any]:
        reason = "length" if count == body.get("options", {}).get("num_predict") else "stop"
        figures = {"prompt_eval_count": 7, "eval_count": count, "total_duration": 380_000_000, **DURATIONS}
        return {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": reason, **figures}


def main() -> None:
    """Serve until interrupted: stand_in PORT [TOKENS [FIRST_DELAY TOKEN_DELAY]]; delays in seconds."""
    port, tokens, first, each = (*sys.argv[1:], *["", "20", "0", "0"][len(sys.argv[1:]) :])
    stand_in = StandIn(["word "] * int(tokens), float(first), float(each), keep_requests=False).start(int(port))
    print(stand_in.url, flush=True)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


if __name__ == "__main__":
    main()
