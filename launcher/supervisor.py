"""Ollama and the gateway as one: started in order, kept running, stopped in order."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from signal import SIGQUIT
from urllib.parse import urlsplit

from launcher.cache import cache_dir
from launcher.console import Problem, say
from launcher.find_model import find_model
from launcher.find_ollama import find_ollama
from launcher.load_model import Model, load, look_at, need_all_loaded
from launcher.memory import default_mib
from launcher.model_room import need_room, needs_of, room_mib
from launcher.ollama_calls import answers, version
from launcher.ollama_process import OllamaProcess
from launcher.ports import need_port
from launcher.processes import kill_session, spawn
from service.ollama import Ollama
from service.ollama_version import version_note
from service.settings import LOCAL, Settings

ROOT = Path(__file__).resolve().parent.parent
READY_TIMEOUT = 60.0  # seconds from the gateway's start to its /readyz
DRAIN_MARGIN = 15.0  # seconds beyond what the gateway itself allows for a drain
QUICK_STOP = 2.0  # seconds for the gateway to go when nothing is waited for
STABLE = 5.0  # seconds after which an Ollama that ends counts as a first failure again
LONGEST_BACKOFF = 30.0  # seconds
LOOK = 1.0  # seconds between two looks at an Ollama that isn't ours
GONE = 5.0  # seconds without it until we start our own; a systemd unit of Ollama's restarts after 3


class Supervisor:
    """What `python -m launcher` runs; start(), then watch(), and stop() in any case."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self.settings, self._environ = settings, environ
        self._ollama: OllamaProcess | None = None  # None: one that was already running
        self._gateway: subprocess.Popen[bytes] | None = None
        self._gone_since: float | None = None
        self.models: list[Model] = []  # once they are loaded

    def start(self) -> None:
        """Return once the gateway is ready. Raises Problem."""
        need_port(self.settings.host, self.settings.port, "PORT or HOST")
        need_port(self.settings.private_host, self.settings.private_port, "PRIVATE_PORT or PRIVATE_HOST")
        self._start_ollama()
        self._find_models()
        self._load_models()
        self._start_gateway()

    def _find_models(self) -> None:
        """Have Ollama hold every model; if there is only one, the small model may stand in for it."""
        names = self.settings.names
        for name in names.models:
            if (found := self._find_model(name)) != name:
                aliases = " ".join(f"{alias}={found}" for alias in names.aliases)
                self.settings = replace(self.settings, model=found, aliases=aliases)

    def _find_model(self, name: str) -> str:
        alone = len(self.settings.names.models) == 1
        return find_model(self.settings.ollama_host, name, self._environ, or_small=alone)

    def _load_models(self) -> None:
        """Load every model, or none if they don't fit in memory together."""
        url, settings = self.settings.ollama_host, self.settings
        self.models = [look_at(url, Ollama(each).payload()) for each in settings.each_model()]
        # How much memory there is for an Ollama that isn't ours, nobody says.
        room = room_mib(settings.ollama_memory_mib, self._environ) if self._ollama else None
        if room is not None:
            need_room([needs_of(url, model, settings.slots) for model in self.models], room, default_mib())
        for model in self.models:
            say(f"loading the model {model.name} …")
            load(url, model, room_mib=room)
        if len(self.models) > 1:
            need_all_loaded(url, self.models)

    def _start_ollama(self) -> None:
        url = self.settings.ollama_host
        if answers(url):
            say(f"using the Ollama at {url}; how many requests it runs at once is its own OLLAMA_NUM_PARALLEL")
            self._note_version()
            return
        address = urlsplit(url)
        need_port(address.hostname or "", address.port or 0, "OLLAMA_HOST, or have an Ollama answer there")
        program = find_ollama(self._environ)
        log = self._log()
        say(f"starting {program}" + (f", log in {log}" if log else ""))
        self._ollama = OllamaProcess(program, self.settings, self._environ, log)
        self._ollama.start()
        self._note_version()

    def _note_version(self) -> None:
        found = version(self.settings.ollama_host)
        if found and (note := version_note(found)):
            say(f"NOTE: {note}")

    def _log(self) -> Path | None:
        """Return the file for Ollama's log, emptied; None in a container, whose log is its output."""
        if os.getpid() == 1:
            return None
        log = cache_dir(self._environ) / "ollama.log"
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_bytes(b"")
        except OSError as error:
            raise Problem(f"{log} can't be written ({error.strerror}): set SLUICE_CACHE") from error
        return log

    def _start_gateway(self) -> None:
        command = [sys.executable, "-m", "gunicorn", "-c", "service/gunicorn.conf.py", "service.wsgi:app"]
        ours = {name: getattr(self.settings, name.lower()) for name in ("MODEL", "ALIASES", "OLLAMA_HOST")}
        env = {**self._environ, **ours}
        self._gateway = spawn(command, death_signal=SIGQUIT, env=env, cwd=ROOT)
        deadline = time.monotonic() + READY_TIMEOUT
        while not self._is_ready():
            if self._gateway.poll() is not None:
                raise Problem("the gateway ended at its start: its last lines say why")
            if time.monotonic() > deadline:
                raise Problem(f"the gateway isn't ready after {READY_TIMEOUT:.0f} s: its last lines say why")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        host = LOCAL.get(self.settings.private_host, self.settings.private_host)
        connection = HTTPConnection(host, self.settings.private_port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def watch(self) -> int:
        """Start Ollama again whenever it ends, until the gateway ends; return the gateway's exit code."""
        assert self._gateway is not None  # noqa: S101
        while self._ollama is None:
            if await_end(self._gateway, timeout=LOOK):
                return exit_code(self._gateway)
            self._replace_ollama()
        failures, started = 0, time.monotonic()
        while True:
            await_end(self._gateway, *([self._ollama.process] if self._ollama.process else []))
            if self._gateway.poll() is not None:
                return exit_code(self._gateway)
            failures = failures + 1 if time.monotonic() - started < STABLE else 0
            self._restart_ollama(failures)
            started = time.monotonic()

    def _replace_ollama(self) -> None:
        """Start an Ollama of our own once the one that was running has been gone for a while."""
        url = self.settings.ollama_host
        if answers(url):
            self._gone_since = None
            return
        now = time.monotonic()
        if self._gone_since is None:
            say(f"the Ollama at {url} doesn't answer: waiting for it")
            self._gone_since = now
        if now - self._gone_since < GONE or not self._may_listen(url):
            return
        try:
            self._start_ollama()
            for name in self.settings.names.models:
                if self._find_model(name) != name:
                    say(f"the new Ollama has no {name}: pull it, or start again")
        except Problem as problem:
            say(str(problem))

    def _may_listen(self, url: str) -> bool:
        """Say whether the Ollama that is gone was on this machine, and nothing is at its port."""
        address = urlsplit(url)
        try:
            need_port(address.hostname or "", address.port or 0, "OLLAMA_HOST")
        except Problem:
            return False
        return True

    def _restart_ollama(self, failures: int) -> None:
        assert self._gateway is not None and self._ollama is not None  # noqa: S101
        delay = min(LONGEST_BACKOFF, 2.0**failures - 1)
        say(f"Ollama has ended: starting it again in {delay:.0f} s" if delay else "Ollama has ended: starting it again")
        await_end(self._gateway, timeout=delay)
        if self._gateway.poll() is not None:
            return
        try:
            self._ollama.start()  # the gateway has it load the model
        except Problem as problem:
            say(str(problem))

    def drain(self) -> int:
        """Let the gateway finish what it has, and return its exit code; Ollama goes on meanwhile."""
        if self._gateway is None:
            return 0
        say("draining: requests under way are finished, no others are taken")
        limits = (self.settings.prestop, self.settings.queue_timeout, self.settings.generation_timeout)
        self._gateway.terminate()
        if not await_end(self._gateway, timeout=sum(limits) + DRAIN_MARGIN):
            say("the drain took too long: stopping")
        self._gateway.poll()
        return exit_code(self._gateway)

    def stop(self) -> None:
        """Stop what still runs, at once; nothing is left when this returns."""
        if self._gateway is not None:
            self._gateway.send_signal(SIGQUIT)
            await_end(self._gateway, timeout=QUICK_STOP)
            kill_session(self._gateway)
        if self._ollama is not None:
            self._ollama.stop()


def await_end(*children: subprocess.Popen[bytes], timeout: float | None = None) -> bool:
    """Wait until one of the children has ended, or `timeout` seconds; say whether one has."""
    if any(child.poll() is not None for child in children):
        return True
    with ExitStack() as stack:
        descriptors = [os.pidfd_open(child.pid) for child in children]
        for descriptor in descriptors:
            stack.callback(os.close, descriptor)
        return bool(select.select(descriptors, [], [], timeout)[0])


def exit_code(child: subprocess.Popen[bytes]) -> int:
    """Return an ended child's exit code as a shell gives it; 1 for one that hasn't ended."""
    code = 1 if child.returncode is None else child.returncode
    return 128 - code if code < 0 else code
