"""An Ollama that runs a model with a setting, and a look at how fast it is."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from launcher.cache import cache_dir
from launcher.console import Problem
from launcher.load_model import load_model
from launcher.ollama_calls import OllamaError, call, events
from launcher.ollama_process import ollama_of_our_own
from loadtest.models.machine import Others, llama_server, peak_mib
from loadtest.models.server import Server
from service.ollama import CHATS, UNSHIFTED
from service.settings import Settings
from tuning.callers import Callers
from tuning.measured import Measured
from tuning.setting import DECIDED, Setting

TIMEOUT = 60.0  # seconds without a byte of what needs no model
ANSWER_TIMEOUT = 600.0


@dataclass(frozen=True, kw_only=True)
class Pod:
    """What stays the same while settings are tried: the model, the tokens a slot has, Ollama's environment."""

    model: str
    context_length: int
    environ: Mapping[str, str]

    def check(self, setting: Setting) -> str:
        """Return Ollama's version. Raises Problem: a model that isn't there or doesn't chat."""
        with self._running(setting) as (url, _):
            version = str(call(url, "/api/version", timeout=TIMEOUT)["version"])
            self._check_model(url)
        return version

    def _check_model(self, url: str) -> None:
        try:
            shown = call(url, "/api/show", {"model": self.model}, timeout=TIMEOUT)
        except OllamaError as error:
            advice = f"`ollama pull {self.model}` or `make serve MODEL={self.model}` gets it"
            raise Problem(f"MODEL={self.model} isn't in Ollama's store ({error.text}): {advice}") from error
        if CHATS not in (shown.get("capabilities") or ()):
            raise Problem(f"MODEL={self.model} can't write, so it has no tokens/s to tune: name a model that chats")

    def look(self, setting: Setting, seconds: float) -> Measured:
        """Run the model with a setting, and measure for so long. Raises OllamaError or Problem where it doesn't run."""
        with self._running(setting) as (url, ollama):
            body = {"model": self.model, "keep_alive": -1, "options": setting.options(self.context_length)}
            load_model(url, body)
            ask = _Asker(url, body)
            next(ask("Hi", 1), None)  # brings in the weights that are read where they lie
            server = llama_server(Server(url, ollama.pid))
            others, used = Others([each for each in (ollama, server) if each]), _cpu_seconds(server)
            callers = Callers(ask, setting.slots, seconds)
            callers.run()
            used = _cpu_seconds(server) - used
            return Measured(
                rate=callers.rate,
                slowest=callers.slowest,
                first_tokens=callers.first_tokens,
                memory_mib=peak_mib(server) if server else None,
                efficiency=callers.tokens / used if used else None,
                others=others.share(),
            )

    @contextmanager
    def _running(self, setting: Setting) -> Iterator[tuple[str, psutil.Process]]:
        settings = Settings(
            slots=setting.slots,
            threads=setting.threads,
            model=self.model,
            context_length=self.context_length,
            max_tokens=self.context_length - 1,
        )
        environ = {name: value for name, value in self.environ.items() if name not in DECIDED}
        log = cache_dir(self.environ) / "ollama-tune.log"
        with ollama_of_our_own(settings, environ | setting.environ(), log) as ollama:
            if ollama.process is None:
                raise Problem("Ollama has no process")
            yield ollama.url, psutil.Process(ollama.process.pid)


@dataclass(frozen=True)
class _Asker:
    """Asks as the gateway does: a chat that is streamed, with sampling that is the same for every setting."""

    url: str
    body: Mapping[str, Any]

    def __call__(self, prompt: str, tokens: int) -> Iterator[None]:
        options = {**self.body["options"], "num_predict": tokens, "seed": 1}
        messages = [{"role": "user", "content": prompt}]
        chat = {**self.body, "messages": messages, "think": False, "options": options, **UNSHIFTED}
        for event in events(self.url, "/api/chat", chat, timeout=ANSWER_TIMEOUT):
            if event.get("message", {}).get("content"):
                yield


def _cpu_seconds(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return float(times.user + times.system)
