"""A model in an Ollama, asked the way the measurements need it."""

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.load_model import load_model
from launcher.ollama_calls import call, events
from service.model_names import with_tag
from service.ollama import UNSHIFTED

TIMEOUT = 600.0  # seconds without a byte of an answer
UNLOAD_TIMEOUT = 30.0


@dataclass(frozen=True)
class Stream:
    """One streamed answer. Times are in seconds since the request: to the first text and to the last."""

    first: float | None
    last: float
    tokens: int
    prompt_tokens: int

    @property
    def decode(self) -> float | None:
        """Return tokens/s after the first one; None for an answer too short to tell."""
        if self.first is None or self.tokens < 2 or self.last == self.first:
            return None
        return (self.tokens - 1) / (self.last - self.first)


@dataclass(frozen=True)
class OllamaModel:
    """options: what the model is loaded with and asked with; thinks: it would think aloud unless told not to."""

    url: str
    name: str
    options: dict[str, Any]
    thinks: bool = False

    def load(self) -> float:
        """Load the model, and return the seconds it took. Raises Problem."""
        started = time.perf_counter()
        load_model(self.url, self._body())
        return time.perf_counter() - started

    def unload(self) -> None:
        """Take the model out of memory, and wait until it is gone. Raises OllamaError."""
        call(self.url, "/api/generate", {"model": self.name, "keep_alive": 0}, timeout=TIMEOUT)
        deadline = time.monotonic() + UNLOAD_TIMEOUT
        while self.listed() and time.monotonic() < deadline:
            time.sleep(0.05)

    def listed(self) -> dict[str, Any]:
        """Return what /api/ps says of the loaded model; empty if it isn't loaded."""
        running = call(self.url, "/api/ps", timeout=TIMEOUT)["models"] or []
        name = with_tag(self.name).casefold()
        return next((each for each in running if each["name"].casefold() == name), {})

    def answer(self, prompt: str, *, max_tokens: int, picture: bytes | None = None) -> str:
        """Return the answer at temperature 0. Raises OllamaError."""
        images = [base64.b64encode(picture).decode()] if picture else []
        body = self._chat(prompt, images, num_predict=max_tokens)
        return str(call(self.url, "/api/chat", body | {"stream": False}, timeout=TIMEOUT)["message"]["content"])

    def stream(self, prompt: str, *, max_tokens: int) -> Stream:
        """Time an answer that no stop word ends. Raises OllamaError."""
        started = time.perf_counter()
        first, last = None, 0.0
        event: dict[str, Any] = {}
        body = self._chat(prompt, [], num_predict=max_tokens, stop=[])
        for event in events(self.url, "/api/chat", body, timeout=TIMEOUT):
            if event.get("message", {}).get("content"):
                last = time.perf_counter() - started
                first = first or last
        return Stream(first, last, event.get("eval_count", 0), event.get("prompt_eval_count", 0))

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return the texts' embeddings. Raises OllamaError."""
        return list(call(self.url, "/api/embed", self._body() | {"input": list(texts)}, timeout=TIMEOUT)["embeddings"])

    def files(self) -> list[Path]:
        """Return the model's files in Ollama's store, as Ollama names them; they may be another machine's."""
        shown = call(self.url, "/api/show", {"model": self.name}, timeout=TIMEOUT)["modelfile"].splitlines()
        return [Path(line.removeprefix("FROM ")) for line in shown if line.startswith("FROM /")]

    def _body(self) -> dict[str, Any]:
        return {"model": self.name, "keep_alive": -1, "options": self.options}

    def _chat(self, prompt: str, images: list[str], **options: Any) -> dict[str, Any]:
        message = {"role": "user", "content": prompt, **({"images": images} if images else {})}
        thinking = {"think": False} if self.thinks else {}
        sampling = {**self.options, "temperature": 0, "seed": 0, **options}
        return {**self._body(), **UNSHIFTED, **thinking, "messages": [message], "options": sampling}
