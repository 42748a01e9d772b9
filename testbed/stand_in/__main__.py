"""The stand-in as the program `ollama`: `serve` and `--version`, set by the environment.

OLLAMA_HOST, OLLAMA_NUM_PARALLEL  as Ollama's: the address, and how many requests run at once
ENGINE  which stand-in: timed (the default), stepped or scripted
ENGINE_SECONDS, ENGINE_VARIATION, ENGINE_LOAD_SECONDS, ENGINE_CPUS, ENGINE_TOKENS  of the timed one: see timed.py
ENGINE_PREFILL, ENGINE_ALONE, ENGINE_TOGETHER  of the stepped one: tokens/s of a prompt, of one answer, of all slots'
ENGINE_TOKENS, ENGINE_FIRST_DELAY, ENGINE_TOKEN_DELAY  of the scripted one: tokens of an answer, seconds
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping

from testbed.stand_in.ollama import Ollama
from testbed.stand_in.scripted import StandIn
from testbed.stand_in.stepped import Stepped, slowing
from testbed.stand_in.timed import Timed

Environ = Mapping[str, str]


def main(arguments: list[str], make: Callable[[Environ, str], Ollama]) -> None:
    """Run a command of `ollama` on what `make` returns for the environment and a host."""
    if arguments == ["--version"]:
        print(f"ollama version is {make(os.environ, '').version}")
    elif arguments == ["serve"]:
        asyncio.run(serve(make))
    else:
        sys.exit("this stand-in for ollama knows two commands: serve and --version")


async def serve(make: Callable[[Environ, str], Ollama]) -> None:
    """Serve until SIGTERM."""
    host, _, port = (os.environ.get("OLLAMA_HOST") or "127.0.0.1:11434").removeprefix("http://").rpartition(":")
    server = make(os.environ, host)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.finish)
    await server.serve(int(port))


def stand_in(environ: Environ, host: str) -> Ollama:
    """Return the stand-in that ENGINE names."""
    kinds: dict[str, Callable[[Environ, str], Ollama]] = {"timed": timed, "stepped": stepped, "scripted": scripted}
    return kinds[environ.get("ENGINE", "timed")](environ, host)


def timed(environ: Environ, host: str, kind: type[Timed] = Timed) -> Timed:
    """Return the stand-in whose answers take their time."""
    names = ("seconds", "variation", "load_seconds", "cpus")
    figures = {name: float(environ[key]) for name in names if (key := f"ENGINE_{name.upper()}") in environ}
    slots, tokens = int(environ.get("OLLAMA_NUM_PARALLEL") or 1), int(environ.get("ENGINE_TOKENS", "32"))
    return kind(host, slots=slots, tokens=tokens, pod=environ.get("HOSTNAME", ""), **figures)  # type: ignore[arg-type]


def stepped(environ: Environ, host: str) -> Stepped:
    """Return the stand-in whose slots slow each other."""
    prefill, alone, together = (float(environ[f"ENGINE_{name}"]) for name in ("PREFILL", "ALONE", "TOGETHER"))
    return Stepped(host, prefill=prefill, seconds_a_token=slowing(alone, int(environ["OLLAMA_NUM_PARALLEL"]), together))


def scripted(environ: Environ, host: str) -> StandIn:
    """Return the stand-in that keeps no requests, as many as there may be."""
    first, each = (float(environ.get(f"ENGINE_{name}", "0")) for name in ("FIRST_DELAY", "TOKEN_DELAY"))
    tokens = ["word "] * int(environ.get("ENGINE_TOKENS", "20"))
    return StandIn(host, tokens=tokens, first_delay=first, token_delay=each, keep_requests=False)


if __name__ == "__main__":
    main(sys.argv[1:], stand_in)
