"""What the gateway and its settings of Ollama do to a real model's tokens/s."""

import asyncio
import itertools
import os
import statistics
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from launcher.find_ollama import find_ollama, program_version
from launcher.ollama_process import ollama_environ
from launcher.small_model import SMALL_MODEL
from loadtest.bench import load, systems
from loadtest.reporting.target import Target, new_target
from service.settings import Settings
from testbed import programs
from testbed.fetching import fetch
from testbed.ports import free_port
from testbed.real_ollama import models_dir, real_ollama
from testbed.waiting import eventually

Engine = tuple[str, dict[str, int]]  # an Ollama's URL, and the options of each request to it
TOPICS = ("rivers", "bread", "the moon", "trains", "music", "bees", "glass", "winter")


def real_model() -> Iterator[Target]:
    """Generate with the real model directly and through the gateway in turn."""
    with real_ollama(Settings(slots=1)) as ollama, systems.gateway(ollama.url, ollama.model, slots=1) as served:
        options = {"num_predict": 96, "temperature": 0, "num_ctx": 2048, "num_thread": Settings().threads}
        direct = load.chat(ollama.url, ollama.model, stream=True, keep_alive=-1, shift=False, options=options)
        ours = load.generate(served.url, stream=True, max_tokens=96, temperature=0)
        rates: dict[int, list[float]] = {0: [], 1: []}
        for _, (which, request) in itertools.product(range(12), enumerate((direct, ours))):
            rates[which].append(asyncio.run(load.tokens_per_second([request]))[0])
    ratio = statistics.median(b / a for a, b in zip(rates[0], rates[1], strict=True)) * 100
    result = f"{statistics.median(rates[1]):.1f} of {statistics.median(rates[0]):.1f} tokens/s: {ratio:.1f} %"
    yield new_target(
        "real model through the gateway, compared with Ollama asked directly", result, "≥ 97 %", ratio >= 97
    )


def parallel() -> Iterator[Target]:
    """Send 8 requests at once, then one, to Ollama by its defaults and with what `make serve` gives it, in turn.

    The program of an older Ollama, in OLDER_OLLAMA, gets what `make serve` gives too.
    """
    settings = Settings(slots=8)
    ours = with_8, with_4, default = "with 8 slots", "with 4 slots", "by default"
    older = ""
    with ExitStack() as stack:
        engines: dict[str, Engine] = {default: (stack.enter_context(bare_ollama(find_ollama(os.environ))), {})}
        for name, each in ((with_4, replace(settings, slots=4)), (with_8, settings)):
            engines[name] = stack.enter_context(real_ollama(each)).url, options_of(each)
        if program := os.environ.get("OLDER_OLLAMA"):
            older = f"by Ollama {program_version(Path(program), os.environ)}"
            environ = ollama_environ(settings, {})
            engines[older] = stack.enter_context(bare_ollama(Path(program), environ)), options_of(settings)
        rounds = [
            {
                name: (ask_at_once(*engine, TOPICS, number), ask_at_once(*engine, TOPICS[:1], -number))
                for name, engine in engines.items()
            }
            for number in range(1, 7)
        ][1:]

    def figure(name: str, measured: int, which: int) -> float:
        return statistics.median(each[name][measured][which] for each in rounds)

    def ratio(measured: int, other: str) -> float:
        return statistics.median(each[with_8][measured][0] / each[other][measured][0] for each in rounds)

    rates = ", ".join(f"{figure(name, 0, 0):.0f} {name}" for name in ours)
    what = "tokens/s of 8 requests at once, 96 tokens each, our Ollama settings compared with its defaults"
    yield new_target(what, f"{rates}: {ratio(0, default):.1f} ×", "≥ 2 ×", ratio(0, default) >= 2)
    cost = f"{figure(with_8, 0, 1):.1f} tokens/s each, {figure(default, 0, 1):.1f} by default; first token p50 "
    cost += f"{figure(with_8, 0, 2):.1f} s, {figure(default, 0, 2):.1f} s"
    yield new_target("what the 8 slots cost each of them", cost, "–", True)
    for measured, what in enumerate(("the same 8, with 8 slots", "tokens/s of one request alone, with 8 slots")):
        for other in filter(None, (default if measured else "", older)):
            result = f"{figure(with_8, measured, 0):.1f}, {figure(other, measured, 0):.1f} {other}: "
            times = ratio(measured, other)
            yield new_target(what, f"{result}{times:.2f} ×", "≥ 0.95 ×", times >= 0.95)


@contextmanager
def bare_ollama(program: Path, environ: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """Run an Ollama with nothing set but its address, its model store and this environment; yield its URL."""
    url = f"127.0.0.1:{free_port()}"
    environ = {**environ, "OLLAMA_HOST": url, "OLLAMA_MODELS": str(models_dir())}
    with programs.running([str(program), "serve"], programs.scratch() / "ollama.log", **environ):
        eventually(lambda: systems.answers(f"http://{url}/api/version"), 60)
        yield f"http://{url}"


def options_of(settings: Settings) -> dict[str, int]:
    """Return the options with which the gateway asks for the model."""
    return {"num_ctx": settings.context_length, "num_thread": settings.threads}


def ask_at_once(url: str, options: dict[str, int], topics: Sequence[str], number: int) -> tuple[float, float, float]:
    """Ask about each topic, with a number that makes the prompts new ones.

    Returns tokens/s together, and the medians of tokens/s of one while it runs and of seconds to first token.
    """

    def request(topic: str) -> load.Request:
        messages = [{"role": "user", "content": f"Question {number}: tell me about {topic}."}]
        sampling = {"num_predict": 96, "temperature": 0, "stop": []} | options
        return load.Request(
            f"{url}/api/chat", {"model": SMALL_MODEL, "messages": messages, "stream": True, "options": sampling}
        )

    together, alone, firsts = asyncio.run(load.tokens_per_second([request(topic) for topic in topics]))
    return together, statistics.median(alone), statistics.median(firsts)


def leaving_real() -> Iterator[Target]:
    """Let a client leave while the real model reads a long prompt; see when the next request gets its first token.

    llama-server takes a cancel up between two batches of a prompt (512 or 1,024 tokens: num_batch), so the slot is free
    at once, and the engine once it has read the batch that it is at.
    """
    prompt = "word " * 1500
    with real_ollama(Settings(slots=1)) as ollama, systems.gateway(ollama.url, ollama.model, slots=1) as served:

        def first_token(text: str) -> float:
            reply = fetch(f"{served.url}/generate", {"prompt": text, "max_tokens": 1})
            return float(reply.json()["timings"]["first_token_ms"])

        whole = first_token(f"0 {prompt}")
        idle = statistics.median(first_token(f"Idle {i}") for i in range(5))
        waits = []
        for index in range(5):
            sock = served.connect("/generate", {"prompt": f"{index + 1} {prompt}"})
            eventually(lambda: served.metric("sluice_requests_in_flight") == 1)
            threading.Event().wait(0.3)
            sock.close()
            eventually(lambda: served.metric("sluice_requests_in_flight") == 0)
            waits.append(first_token(f"Next {index}") - idle)
    late = max(waits)
    result = f"at most {late:.0f} ms later than when idle; the whole prompt would take {whole:.0f} ms"
    yield new_target("real model: first token of the next request after a client left mid-prompt", result, "–", True)
