"""`python -m launcher`: Ollama, the model and the gateway, from nothing to serving; they end together.

SIGINT stops everything at once. SIGTERM lets the gateway finish its requests first. Exit code 0 after either.
"""

import os
import signal
import sys
from collections.abc import Mapping
from types import FrameType
from typing import NoReturn

from launcher.console import Problem, say
from launcher.processes import adopt_orphans
from launcher.supervisor import Supervisor
from service.addresses import with_port
from service.settings import LOCAL, SettingError, Settings


class Terminated(BaseException):
    """SIGTERM has come."""


def main(environ: Mapping[str, str]) -> int:
    """Serve until a signal comes or the gateway ends, and return the exit code."""
    signal.signal(signal.SIGTERM, _terminate)  # process 1 of a container has no default action
    signal.signal(signal.SIGINT, signal.default_int_handler)
    adopt_orphans()
    try:
        supervisor = Supervisor(Settings.from_environ(environ), environ)
    except SettingError as error:
        return _report(error)
    try:
        supervisor.start()
        _announce(supervisor.settings)
        return supervisor.watch()
    except Problem as problem:
        return _report(problem)
    except KeyboardInterrupt:
        say("\nstopping")
        return 0
    except Terminated:
        return _drain(supervisor)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a stop is short, and must not be left half done
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        supervisor.stop()


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _drain(supervisor: Supervisor) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        return supervisor.drain()
    except KeyboardInterrupt:
        say("\nstopping")
        return 0


def _report(error: Exception) -> int:
    print(f"sluice: {error}", file=sys.stderr, flush=True)
    return 1


def _announce(settings: Settings) -> None:
    host = "localhost" if settings.host in ("127.0.0.1", *LOCAL) else settings.host
    url = f"http://{with_port(host, settings.port)}"
    key = "-H 'Authorization: Bearer YOUR_KEY' " if settings.api_keys_file else ""
    say(f"\n{settings.model} answers at {url} (Ctrl-C stops it). Open that page, or try:\n")
    body = """-H 'Content-Type: application/json' -d '{"prompt": "Why is the sky blue?"}'"""
    say(f"  curl {url}/generate {key}{body}\n")


if __name__ == "__main__":
    sys.exit(main(os.environ))
