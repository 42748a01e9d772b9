"""Ollama's HTTP API without a model: what answers say, and when, is for subclasses to decide."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from testbed.stand_in.model import VERSION
from testbed.stand_in.server import Exchange, Server

MODEL = "stand-in"


@dataclass
class Ollama:
    """The server: start() and stop() run it in a thread, serve() in the one that calls it."""

    host: str = "127.0.0.1"
    capabilities: list[str] = field(default_factory=lambda: ["completion", "vision", "tools", "embedding"])
    version: str = VERSION

    def __post_init__(self) -> None:
        self.models: set[str] = set()  # by their names, those that are loaded
        self._server = Server(self.answer)
        self._stopping = asyncio.Event()

    def start(self, port: int = 0) -> Self:
        """Serve from a thread until stop(); port 0 takes a free one."""
        started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self.serve(port, started.set),), daemon=True)
        self._thread.start()
        started.wait()
        return self

    def stop(self) -> None:
        """Stop serving and cut every connection."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self.finish)
            self._thread.join()

    def finish(self) -> None:
        """Have serve() come to its end."""
        self._stopping.set()

    async def serve(self, port: int = 0, started: Callable[[], object] = lambda: None) -> None:
        """Serve until finish() is called, at which every answer is cut at once, as Ollama does."""
        self._loop = asyncio.get_running_loop()
        await self.listen(port)
        started()
        await self._stopping.wait()
        await self._server.close()

    async def listen(self, port: int) -> None:
        """Accept connections at a port."""
        self.port = await self._server.listen(self.host, port)
        self.url = f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    async def answer(self, exchange: Exchange) -> None:
        """Answer a request."""
        match exchange.path:
            case "/":
                await exchange.reply("Ollama is running")
            case "/api/version":
                await exchange.reply({"version": self.version})
            case "/api/tags":
                await exchange.reply({"models": self.stored()})
            case "/api/ps":
                await exchange.reply({"models": self.running_models()})
            case "/api/show":
                await self.show(exchange)
            case "/api/create":
                await exchange.reply({"status": "success"})
            case "/api/embed":
                await self.embed(exchange)
            case "/api/generate":
                await self.generate(exchange)
            case "/api/chat":
                await self.chat(exchange)
            case _:
                await exchange.reply({"error": "not found"}, 404)

    def stored(self) -> list[Any]:
        """Return the models of /api/tags."""
        return self.running_models()

    def running_models(self) -> list[Any]:
        """Return the models of /api/ps."""
        return [{"name": name, "model": name} for name in sorted(self.models)]

    async def show(self, exchange: Exchange) -> None:
        """Tell of a model."""
        await exchange.reply({"capabilities": self.capabilities})

    async def load(self, name: str) -> None:
        """Load a model."""
        self.models.add(name)

    async def embed(self, exchange: Exchange) -> None:
        """Answer each text with the same vector."""
        name = exchange.body["model"]
        await self.load(name)
        figures = {"total_duration": 9_000_000, "load_duration": 2_000_000, "prompt_eval_count": 3}
        await exchange.reply({"model": name, **figures, "embeddings": [[0.6, 0.8] for _ in exchange.body["input"]]})

    async def generate(self, exchange: Exchange) -> None:
        """Answer a prompt; without one the model is only loaded."""
        if prompt(exchange):
            await self.chat(exchange)
        else:
            await self.load(exchange.body["model"])
            await exchange.reply({"done": True, "done_reason": "load"})

    async def chat(self, exchange: Exchange) -> None:
        """Answer the last message."""
        raise NotImplementedError

    def piece(self, exchange: Exchange, text: str, **message: Any) -> dict[str, Any]:
        """Return a piece of an answer, in the form of the path that asked for it; message: more of its fields."""
        said: dict[str, Any] = {"message": {"role": "assistant", "content": text, **message}}
        if exchange.path == "/api/generate":
            said = {"response": text}
        return {"model": exchange.body.get("model", MODEL), **said, "done": False}

    def last(self, exchange: Exchange, count: int, text: str = "") -> dict[str, Any]:
        """Return the end of an answer of `count` tokens, with all of its text where it isn't streamed."""
        reason = "length" if count == wanted_tokens(exchange) else "stop"
        figures = {"prompt_eval_count": 7, "eval_count": count}
        return {**self.piece(exchange, text), "done": True, "done_reason": reason, **figures}


def wanted_tokens(exchange: Exchange) -> int | None:
    """Return how many tokens an answer may have at most, None without a limit."""
    wanted = exchange.body.get("options", {}).get("num_predict", -1)
    return wanted if wanted >= 0 else None


def prompt(exchange: Exchange) -> str:
    """Return what was asked, whichever way it came."""
    messages = exchange.body.get("messages") or [{}]
    return str(exchange.body.get("prompt") or messages[-1].get("content") or "")
