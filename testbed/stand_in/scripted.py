"""The stand-in that says, and does wrong, what it is told to: for tests, and for the benchmark of the gateway alone."""

import asyncio
import json
from dataclasses import dataclass, field, fields
from typing import Any

from testbed.stand_in import model
from testbed.stand_in.ollama import MODEL, Ollama, wanted_tokens
from testbed.stand_in.server import Exchange

NAME = f"{MODEL}:latest"  # as Ollama lists it
# Nanoseconds, in an answer's last line.
DURATIONS = {"load_duration": 2_000_000, "prompt_eval_duration": 70_000_000, "eval_duration": 300_000_000}


@dataclass
class StandIn(Ollama):
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
    template: str = "{{ range .Messages }}{{ .Role }}: {{ .Content }}{{ end }}"
    loaded: bool = True
    others: dict[str, list[str]] = field(default_factory=dict)  # further models, and what each can do
    requests: list[tuple[str, Any]] = field(default_factory=list)
    cancelled: int = 0
    running: int = 0
    keep_requests: bool = True
    headers: list[dict[str, str]] = field(default_factory=list)  # by names in lower case
    peers: set[int] = field(default_factory=set)  # the ports that requests came from

    def __post_init__(self) -> None:
        super().__post_init__()
        self._gate = asyncio.Event()
        self._stuck = self._dead = False

    def renew(self) -> None:
        """Do as a new one does, and forget all that came."""
        for each in fields(StandIn):
            setattr(self, each.name, getattr(StandIn(host=self.host), each.name))
        self.hold()

    def release(self) -> None:
        """Let the answers go on that are held at the gate, and all later ones."""
        self._loop.call_soon_threadsafe(self._gate.set)

    def hold(self) -> None:
        """Close the gate again."""
        self._loop.call_soon_threadsafe(self._gate.clear)

    def kill(self) -> None:
        """Die, and come back after `down_for` seconds without the model, as Ollama does under a supervisor."""
        self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._die()))

    def chats(self) -> list[Any]:
        """Return the bodies of the chats asked for."""
        return [body for path, body in self.requests if path == "/api/chat"]

    def stored(self) -> list[Any]:
        """Return the models, loaded or not."""
        return [model.listed(name, capabilities) for name, capabilities in self._known().items()]

    def running_models(self) -> list[Any]:
        """Return the models, if they are loaded."""
        return [model.running(name) for name in self._known()] if self.loaded else []

    def _known(self) -> dict[str, list[str]]:
        """Return what each model can do, by the names that Ollama lists."""
        return {NAME: self.capabilities, **{f"{name}:latest": can for name, can in self.others.items()}}

    async def show(self, exchange: Exchange) -> None:
        """Tell all that Ollama tells of a model."""
        name = f"{exchange.body['model']}:latest"
        name = name if name in self._known() else NAME
        await exchange.reply(model.shown(name, self.template, self._known()[name]))

    async def load(self, name: str) -> None:
        """Load the model."""
        self.loaded = True

    async def answer(self, exchange: Exchange) -> None:
        """Note a request, and answer it as the script says."""
        if self.resets:
            self.reset += 1
            exchange.reset()
        if self.keep_requests:
            self.headers.append(exchange.headers)
        if exchange.method == "POST":
            self._note(exchange)
            await self._live_or_die(exchange)
        await super().answer(exchange)

    def _note(self, exchange: Exchange) -> None:
        if self.cut_kept and exchange.peer in self.peers:
            exchange.reset()
        if self.keep_requests:
            self.peers.add(exchange.peer)
            self.requests.append((exchange.path, exchange.body))

    async def _live_or_die(self, exchange: Exchange) -> None:
        if self.killed_by and self.killed_by in json.dumps(exchange.body):
            self._dying = self._loop.create_task(self._die())
            await asyncio.sleep(60)

    async def _die(self) -> None:
        if self._dead:  # of another request at the same time
            return
        self._dead, self.deaths, self.loaded = True, self.deaths + 1, False
        await self._server.close()
        await asyncio.sleep(self.down_for)
        self._dead = False  # the next request may come before listen() is through
        await self.listen(self.port)

    async def _get_stuck(self, exchange: Exchange) -> None:
        self._stuck = self._stuck or bool(self.stuck_by and self.stuck_by in json.dumps(exchange.body))
        if self._stuck:  # unloading helps those that come later only: this one stays until it is cut
            await asyncio.Event().wait()

    async def _refuse(self, exchange: Exchange) -> bool:
        """Answer with the error that is set, and say whether there is one."""
        if (error := self.error) is None:  # a test may set another one as soon as it has this answer
            return False
        await exchange.reply({"error": error[1]}, error[0])
        return True

    async def embed(self, exchange: Exchange) -> None:
        """Answer each text with the same vector."""
        if not await self._refuse(exchange):
            await super().embed(exchange)

    async def generate(self, exchange: Exchange) -> None:
        """Load or unload the model, in the gateway's own words; answers come from /api/chat alone."""
        body = exchange.body
        if set(body) == {"model", "keep_alive"} and body["keep_alive"] == 0:
            self.loaded, self._stuck, self.unloads = False, False, self.unloads + 1
            await exchange.reply({"done": True, "done_reason": "unload"})
        elif body.get("keep_alive") != -1 or body.get("shift") is not False or "prompt" in body:
            await exchange.reply({"error": "the stand-in generates by /api/chat alone"}, 400)
        elif not await self._refuse(exchange):
            await super().generate(exchange)

    async def chat(self, exchange: Exchange) -> None:
        """Answer with the next item of the script, else with the tokens."""
        if await self._refuse(exchange):
            return
        if self.script and isinstance(self.script[0], tuple):
            status, error, headers = self.script.pop(0)
            await exchange.reply({"error": error}, status, headers)
            return
        self.running += 1
        try:
            await self._get_stuck(exchange)
            await self._say(exchange)
        except (asyncio.CancelledError, ConnectionError):  # the client has left, maybe between two writes
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def _say(self, exchange: Exchange) -> None:
        if self.script:
            await self._play(exchange, self.script.pop(0))
        elif exchange.body.get("stream") is False:
            await asyncio.sleep(self.first_delay + self.token_delay * len(self.tokens))
            await exchange.reply(self.last(exchange, len(self.tokens), "".join(self.tokens)))
        else:
            await self._stream(exchange, self.tokens[: wanted_tokens(exchange)])

    async def _stream(self, exchange: Exchange, tokens: list[str]) -> None:
        for index in range(len(tokens) + 1):
            delay = self.token_delay if index else self.first_delay
            if delay:
                await asyncio.sleep(delay)
            if index == self.hold_at:
                await self._gate.wait()
            if index == self.die_at:
                exchange.reset()
                return
            if index == self.end_at:
                await exchange.end()
                return
            if index == 0:
                await self._think(exchange)
            if index == self.error_at:
                await exchange.line({"error": self.error_line})
                await exchange.end()
                return
            await exchange.line(
                self.piece(exchange, tokens[index], **self.message)
                if index < len(tokens)
                else self.last(exchange, len(tokens))
            )
        await exchange.end()

    async def _think(self, exchange: Exchange) -> None:
        for thought in self.thoughts if exchange.body.get("think") or self.always_thinks else ():
            await exchange.line(self.piece(exchange, "", **{**self.message, "thinking": thought}))

    async def _play(self, exchange: Exchange, said: Any) -> None:
        said = said(exchange.body) if callable(said) else said
        message = {"content": said} if isinstance(said, str) else {"content": "", **said}
        await exchange.line(self.piece(exchange, message.pop("content"), **message))
        await exchange.line(self.last(exchange, 1))
        await exchange.end()

    def last(self, exchange: Exchange, count: int, text: str = "") -> dict[str, Any]:
        """Return the end of an answer, with its durations."""
        return {**super().last(exchange, count, text), "total_duration": 380_000_000, **DURATIONS}
