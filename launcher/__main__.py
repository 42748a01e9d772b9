"""`python -m launcher`: Ollama, the model and the gateway, from nothing to serving; they end together.

SIGINT stops everything at once. SIGTERM lets the gateway finish its requests first. Exit code 0 after either.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from launcher.console import Problem, say
from launcher.load_model import Model
from launcher.processes import adopt_orphans
from launcher.supervisor import Supervisor
from service.addresses import with_port
from service.keys import Keys
from service.ollama import CHATS
from service.settings import LOCAL, SettingError, Settings


class Terminated(BaseException):
    """SIGTERM has come."""


def main(environ: Mapping[str, str]) -> int:
    """Serve until a signal comes or the gateway ends, and return the exit code."""
    signal.signal(signal.SIGTERM, _terminate)  # process 1 of a container has no default action
    signal.signal(signal.SIGINT, signal.default_int_handler)
    adopt_orphans()
    try:
        settings = Settings.from_environ(environ)
        if settings.api_keys_file:
            Keys(Path(settings.api_keys_file), settings.names)  # the gateway would find a mistake in it after the load
        supervisor = Supervisor(settings, environ)
    except SettingError as error:
        return _report(error)
    try:
        supervisor.start()
        _announce(supervisor.settings, supervisor.models)
        return supervisor.watch()
    except (Problem, SettingError) as problem:
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


def _announce(settings: Settings, models: Sequence[Model]) -> None:
    host = "localhost" if settings.host in ("127.0.0.1", *LOCAL) else settings.host
    url = f"http://{with_port(host, settings.port)}"
    key = "-H 'Authorization: Bearer YOUR_KEY' " if settings.api_keys_file else ""
    one = len(models) == 1
    answer, them = ("answers", "it") if one else ("answer", "them")
    say(f"\n{settings.names.told()} {answer} at {url} (Ctrl-C stops {them}). Open that page, or try:\n")
    for model in models:
        path, body = _example(model, named=not one)
        say(f"  curl {url}{path} {key}-H 'Content-Type: application/json' -d '{json.dumps(body)}'")
    say("")


def _example(model: Model, *, named: bool) -> tuple[str, dict[str, str]]:
    """Return the path and body of a request to a model. named: whether it has to name it."""
    if CHATS not in model.capabilities:
        return "/v1/embeddings", {"model": model.name, "input": "Why is the sky blue?"}
    return "/generate", {**({"model": model.name} if named else {}), "prompt": "Why is the sky blue?"}


if __name__ == "__main__":
    sys.exit(main(os.environ))
