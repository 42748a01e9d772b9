"""What is broken: the stand-in engine in a process of its own, and the gateway under gunicorn before it."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import psutil

from launcher.ollama_calls import answers
from testbed import ROOT
from testbed.gateway import Served, serve
from testbed.ports import free_port
from testbed.programs import STAND_IN, scratch
from testbed.waiting import eventually

SECONDS = 0.5  # of an honest answer, if it has a slot
PIECES = 10  # that it comes in


def figures(seconds: float = SECONDS) -> dict[str, str]:
    """Return the variables of the stand-in whose honest answers take so long."""
    return {"ENGINE_SECONDS": str(seconds), "ENGINE_VARIATION": "0", "ENGINE_TOKENS": str(PIECES)}


class Engine:
    """The stand-in engine; it can be killed, paused, and brought back."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.port, self.deaths = free_port(), 0
        self._environ = os.environ | {
            "OLLAMA_HOST": f"127.0.0.1:{self.port}",
            "OLLAMA_NUM_PARALLEL": "64",
            **figures(seconds),
        }
        self._over = threading.Event()
        self._reviver: threading.Thread | None = None
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._reviver:
            self._reviver.join()
        self.resume()
        self.kill()

    def start(self) -> None:
        """Start it and return once it answers."""
        with (scratch() / "engine.log").open("ab") as log:
            self.process = subprocess.Popen(STAND_IN, cwd=ROOT, env=self._environ, stdout=log, stderr=log)
        eventually(lambda: answers(self.url), 30)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def pause(self) -> None:
        """Stop it where it is, its connections open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused one go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)

    def revive(self, after: float) -> None:
        """From now on start it again, so many seconds after each death."""
        self._reviver = threading.Thread(target=self._revive, args=(after,), name="reviver")
        self._reviver.start()

    def _revive(self, after: float) -> None:
        while not self._over.wait(0.05):
            if self.process and self.process.poll() is not None:
                self.deaths += 1
                self._over.wait(after)
                self.start()


@contextmanager
def gateway(ollama: str, **settings: Any) -> Iterator[Served]:
    """Run the gateway before the engine at `ollama`, until the block ends, at which its processes are killed."""
    with serve(ollama, scratch() / "gateway.log", **settings) as served:
        try:
            yield served
        finally:
            if served.process.poll() is None:
                arbiter = psutil.Process(served.process.pid)
                for each in (arbiter, *arbiter.children()):  # one that is busy with an attack hears no other signal
                    with suppress(psutil.NoSuchProcess):
                        each.kill()
                served.process.wait()


def worker(served: Served) -> psutil.Process:
    """Return the process in which requests run, once there is one that lives."""
    arbiter = psutil.Process(served.process.pid)
    return eventually(lambda: next((each for each in arbiter.children() if lives(each)), None), 30)  # type: ignore[no-any-return]


def lives(process: psutil.Process) -> bool:
    """Say whether a process is there and no zombie."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def await_condition(condition: Any, seconds: float) -> bool:
    """Say whether the condition came true within so many seconds; it is asked ten times a second."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True
