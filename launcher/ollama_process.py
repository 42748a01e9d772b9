"""Ollama as a child process: its environment, its start and its stop."""

import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from signal import SIGTERM
from typing import IO
from urllib.parse import urlsplit

from launcher.console import Problem
from launcher.find_ollama import find_ollama
from launcher.memory import default_mib, limit_memory
from launcher.ollama_calls import answers
from launcher.processes import kill_session, last_line, spawn
from service.settings import Settings

START_TIMEOUT = 60.0  # seconds until Ollama answers; it looks for GPUs first
HEAP_MIB = 256  # from which Ollama's server collects its garbage as often as it takes to stay there
STOP_TIMEOUT = 5.0  # seconds; at SIGTERM Ollama cuts its streams and stops its llama-server at once


def ollama_environ(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment Ollama gets: `environ`, our settings where it says nothing, and where Ollama listens.

    An OLLAMA_HOST of 0.0.0.0, which many people have for its clients, would open Ollama to everybody, past the gateway.
    """
    ours = {
        "OLLAMA_NUM_PARALLEL": str(settings.slots),
        "OLLAMA_CONTEXT_LENGTH": str(settings.context_length),
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_MAX_LOADED_MODELS": str(len(settings.names.models)),
        "OLLAMA_NOPRUNE": "1",  # without it a start deletes the files of an interrupted pull
        "OLLAMA_NO_CLOUD": "1",  # without it a start asks its maker's servers, which nobody here uses
        "OLLAMA_FLASH_ATTENTION": "1",
        # Of llama-server, for requests that don't say it themselves: it doesn't see the CPU quota of a container.
        "LLAMA_ARG_THREADS": str(settings.threads),
        "LLAMA_ARG_CACHE_RAM": str(settings.prompt_cache_mib),
        # Models with a sliding window keep all of a context too, or each prompt is read from its first word.
        "LLAMA_ARG_SWA_FULL": "1",
        "GOMEMLIMIT": f"{HEAP_MIB}MiB",
        "GIN_MODE": "release",  # without it a start logs every route
    }
    given = {name: value for name, value in environ.items() if value}
    return ours | given | {"OLLAMA_HOST": urlsplit(settings.ollama_host).netloc}


@contextmanager
def ollama_of_our_own(settings: Settings, environ: Mapping[str, str], log: Path) -> Iterator["OllamaProcess"]:
    """Run an Ollama on a free port until the block ends, with the settings but for their address. Raises Problem."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        settings = replace(settings, ollama_host=f"http://127.0.0.1:{free.getsockname()[1]}")
    log.parent.mkdir(parents=True, exist_ok=True)
    ollama = OllamaProcess(find_ollama(environ), settings, environ, log)
    try:
        ollama.start()
        yield ollama
    finally:
        ollama.stop()


class OllamaProcess:
    """An Ollama of our own at `settings.ollama_host`; it ends when the process that started it does."""

    def __init__(self, program: Path, settings: Settings, environ: Mapping[str, str], log: Path | None) -> None:
        """Take what start() needs; without a `log` file Ollama's log goes to this process's stderr."""
        self.url = settings.ollama_host
        self._command = [str(program), "serve"]
        self._environ = ollama_environ(settings, environ)
        self._log, self._memory_mib = log, settings.ollama_memory_mib
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start Ollama, also again, and return once it answers. Raises Problem."""
        if self.process is not None:
            kill_session(self.process)  # an Ollama that was killed leaves its llama-server behind
        # SIGTERM, not SIGKILL, when we die: only then does it stop its llama-server.
        if self._log:
            with self._log.open("ab") as output:
                self.process = self._spawn(output)
        else:
            self.process = self._spawn(None)
        deadline = time.monotonic() + START_TIMEOUT
        while not answers(self.url):
            if self.process.poll() is not None:
                raise Problem(f"Ollama ended at its start: {self._last_words()}")
            if time.monotonic() > deadline:
                raise Problem(f"Ollama doesn't answer at {self.url} after {START_TIMEOUT:.0f} s: {self._last_words()}")
            time.sleep(0.05)
        return self.process

    def _spawn(self, output: IO[bytes] | None) -> subprocess.Popen[bytes]:
        process = spawn(self._command, death_signal=SIGTERM, env=self._environ, output=output)
        limit_memory(process.pid, self._memory_mib or default_mib())
        return process

    def _last_words(self) -> str:
        return f"{last_line(self._log)} (all of it: {self._log})" if self._log else "see its log above"

    def stop(self) -> None:
        """Stop Ollama and its llama-server; nothing of it is left when this returns."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            pass  # the next line is for that too
        finally:
            kill_session(self.process)
