"""What is measured, one function a target or two."""

import asyncio
import itertools
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

import openai
import psutil
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from launcher.find_ollama import find_ollama, program_version
from launcher.ollama_process import ollama_environ
from launcher.small_model import SMALL_MODEL
from loadtest.bench import load, systems
from loadtest.reporting.statistics import percentile
from loadtest.reporting.target import Target, new_target
from service.settings import Settings
from testbed import programs
from testbed.fetching import fetch
from testbed.gateway import Served, serve
from testbed.ports import free_port
from testbed.real_ollama import models_dir, real_ollama
from testbed.stand_in import MODEL, StandIn
from testbed.waiting import eventually

Engine = tuple[str, dict[str, int]]  # an Ollama's URL, and the options of each request to it
TOPICS = ("rivers", "bread", "the moon", "trains", "music", "bees", "glass", "winter")


@contextmanager
def gateway(ollama: str, model: str = MODEL, **settings: object) -> Iterator[Served]:
    """Run the gateway, warmed up by a few requests."""
    with serve(ollama, programs.scratch() / "gateway.log", model=model, **settings) as served:
        for _ in range(20):
            fetch(f"{served.url}/generate", {"prompt": "x", "max_tokens": 1})
        yield served


def added_latency() -> Iterator[Target]:
    """Ask the stand-in directly, through the gateway and through the naive app in turn, 50 requests a second each."""
    with (
        programs.stand_in("scripted", tokens=20) as ollama,
        gateway(ollama, slots=16) as served,
        systems.naive(ollama) as naive,
    ):
        requests = [load.chat(ollama, MODEL), load.generate(served.url), load.generate(naive)]
        results = asyncio.run(load.open_loop(requests, 150, 30))
    took = [[1000 * result.took for result in each] for each in results]
    (direct, tail), ours, others = ([percentile(each, share) for share in (0.5, 0.99)] for each in took)
    added = ours[0] - direct, ours[1] - tail
    result = f"p50 {added[0]:.1f} ms, p99 {added[1]:.1f} ms; naive Flask p50 {others[0] - direct:.1f} ms, "
    result += f"p99 {others[1] - tail:.1f} ms; directly p50 {direct:.1f} ms"
    what = "gateway's added latency compared with the stand-in asked directly, 50 requests/s"
    yield new_target(what, result, "p50 ≤ 1.5 ms, p99 ≤ 8 ms", added[0] <= 1.5 and added[1] <= 8)


def traces() -> Iterator[Target]:
    """Ask a gateway that sends traces and one that doesn't in turn, 50 requests a second each."""
    with (
        programs.stand_in("scripted", tokens=20) as ollama,
        otlp_sink() as (endpoint, spans),
        gateway(ollama, slots=16) as without,
        gateway(ollama, slots=16, otel_exporter_otlp_endpoint=endpoint) as traced,
    ):
        results = asyncio.run(load.open_loop([load.generate(without.url), load.generate(traced.url)], 100, 30))
        eventually(lambda: len(spans) >= 3 * len(results[1]), 30)
    before, after = (1000 * percentile([each.took for each in part], 0.5) for part in results)
    added = after - before
    result = f"p50 {before:.1f} ms without, {after:.1f} ms with: {added:+.2f} ms"
    yield new_target("traces of every request, 50 requests/s", result, "≤ 0.3 ms", added <= 0.3)


@contextmanager
def otlp_sink() -> Iterator[tuple[str, list[str]]]:
    """Run an endpoint for traces; the list has the name of each span that came."""
    names: list[str] = []

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            batch = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            names.extend(span.name for each in batch.resource_spans for part in each.scope_spans for span in part.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Sink) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", names
        finally:
            server.shutdown()


def throughput() -> Iterator[Target]:
    """Let 32 clients send one request after the other to each system."""
    rates: dict[str, float] = {}
    with programs.stand_in("scripted", tokens=20) as ollama:
        with gateway(ollama, slots=64) as served:
            rates["gateway"] = asyncio.run(load.closed_loop(load.generate(served.url), 32, 15))
        with systems.naive(ollama) as url:
            rates["naive"] = asyncio.run(load.closed_loop(load.generate(url), 32, 15))
        with systems.litellm(ollama) as url:
            body = {"model": MODEL, "messages": [{"role": "user", "content": "Say something."}]}
            request = (f"{url}/v1/chat/completions", body)
            asyncio.run(load.closed_loop(request, 32, 5))
            rates["litellm"] = asyncio.run(load.closed_loop(request, 32, 15))
    ratio = rates["gateway"] / rates["litellm"]
    others = f"LiteLLM {rates['litellm']:.0f}/s ({ratio:.1f} ×), naive Flask {rates['naive']:.0f}/s"
    result = f"{rates['gateway']:.0f}/s; {others}"
    yield new_target("requests/s, 32 clients, stand-in of no delay", result, "≥ 3 × LiteLLM", ratio >= 3)


def dialects() -> Iterator[Target]:
    """Ask the same question by each dialect in turn: 32 clients for the rate, 20 requests/s each for the latency."""
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 64}
    said = [{"role": "user", "content": "Say something."}]
    bodies: dict[str, dict[str, Any]] = {
        "/generate": {"prompt": "Say something."},
        "/v1/chat/completions": {**asked, "messages": said},
        "/v1/completions": {**asked, "prompt": "Say something."},
        "/v1/responses": {"model": MODEL, "input": "Say something."},
        "/v1/messages": {**asked, "messages": said},
        "/api/chat": {"model": MODEL, "messages": said, "stream": False},
        "/api/generate": {"model": MODEL, "prompt": "Say something.", "stream": False},
    }
    with programs.stand_in("scripted", tokens=20) as ollama, gateway(ollama, slots=64) as served:
        requests = [(f"{served.url}{path}", body) for path, body in bodies.items()]
        for request in requests:
            asyncio.run(load.closed_loop(request, 4, 1))
        rates = [asyncio.run(load.closed_loop(request, 32, 8)) for request in requests]
        latencies = asyncio.run(load.open_loop(requests, 20 * len(requests), 20))
        with systems.litellm(ollama) as url:
            request = f"{url}/v1/chat/completions", {"model": MODEL, "messages": said}
            asyncio.run(load.closed_loop(request, 32, 5))
            theirs = asyncio.run(load.closed_loop(request, 32, 10))
    medians = [1000 * percentile([each.took for each in results], 0.5) for results in latencies]
    ours = ", ".join(f"{rate:.0f} {path}" for path, rate in zip(bodies, rates, strict=True))
    ratio = min(rates) / theirs
    what = "requests/s of each dialect, 32 clients, stand-in of no delay"
    yield new_target(what, f"{ours}; LiteLLM {theirs:.0f}: {ratio:.1f} × at least", "≥ 10 × LiteLLM", ratio >= 10)
    more = ", ".join(f"{path} {ms - medians[0]:+.1f} ms" for path, ms in list(zip(bodies, medians, strict=True))[1:])
    what = "p50 of each dialect compared with /generate, 20 requests/s each"
    yield new_target(what, f"{medians[0]:.1f} ms; {more}", "within 0.5 ms", max(medians) - medians[0] <= 0.5)


def streaming() -> Iterator[Target]:
    """Compare streams of 200 tokens a second, and of tokens as fast as they go, read directly and through the gateway.

    The first token is timed at a pace, or what it competes with for the CPUs is the rest of its own stream.
    """
    paced, flat_out = stream_medians(tokens=20, token_delay=0.005), stream_medians(tokens=200, token_delay=0)
    first = (paced["ours"][0] - paced["direct"][0]) * 1000
    token = (flat_out["ours"][1] - flat_out["direct"][1]) * 1e6
    yield new_target("stream of 200 tokens/s: added time to first token", f"{first:.1f} ms", "≤ 3 ms", first <= 3)
    yield new_target(
        "stream: added time a token, tokens as fast as they go", f"{token:.0f} µs", "≤ 100 µs", token <= 100
    )


def stream_medians(*, tokens: int, token_delay: float) -> dict[str, tuple[float, float]]:
    """Return the median seconds to the first token and between tokens, over 200 streams read in turn."""
    firsts: dict[str, list[float]] = {"direct": [], "ours": []}
    gaps: dict[str, list[float]] = {"direct": [], "ours": []}
    with programs.stand_in("scripted", tokens=tokens, token_delay=token_delay) as ollama, gateway(ollama) as served:
        requests = {"direct": load.chat(ollama, MODEL, stream=True), "ours": load.generate(served.url, stream=True)}

        async def run() -> None:
            async with load.session() as client:
                for name, _ in itertools.product(requests, range(20)):
                    await load.stream_times(client, requests[name])
                for _, name in itertools.product(range(200), requests):
                    times = await load.stream_times(client, requests[name])
                    firsts[name].append(times[0])
                    gaps[name].append((times[-1] - times[0]) / (len(times) - 1))

        asyncio.run(run())
    return {name: (statistics.median(firsts[name]), statistics.median(gaps[name])) for name in requests}


def real_model() -> Iterator[Target]:
    """Generate with the real model directly and through the gateway in turn."""
    with real_ollama(Settings(slots=1)) as ollama, gateway(ollama.url, ollama.model, slots=1) as served:
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
        return f"{url}/api/chat", {"model": SMALL_MODEL, "messages": messages, "stream": True, "options": sampling}

    together, alone, firsts = asyncio.run(load.tokens_per_second([request(topic) for topic in topics]))
    return together, statistics.median(alone), statistics.median(firsts)


def overload() -> Iterator[Target]:
    """Offer 1 × and 10 × of what the slots can serve, for a minute each."""
    slots, seconds = 4, 60
    with (
        programs.stand_in("scripted", tokens=20, first_delay=0.2, token_delay=0.01) as ollama,
        gateway(ollama, slots=slots) as served,
    ):
        service = statistics.median(timed(lambda: fetch(f"{served.url}/generate", {"prompt": "x"})) for _ in range(10))
        capacity = slots / service
        [once] = asyncio.run(load.open_loop([load.generate(served.url)], capacity, seconds))
        [ten] = asyncio.run(load.open_loop([load.generate(served.url)], 10 * capacity, seconds))
    statuses = {r.status for r in ten}
    refused = [r for r in ten if r.status != 200]
    honest = statuses <= {200, 429, 503} and all(r.retry_after for r in refused)
    p99 = percentile([r.took * 1000 for r in refused], 0.99)
    good = [goodput(results) for results in (once, ten)]
    counts = f"{len(ten)} requests, statuses {sorted(statuses)}, refusals p99 {p99:.0f} ms"
    what = f"open loop at 10 × capacity ({10 * capacity:.0f} requests/s) for {seconds} s"
    yield new_target(what, counts, "200, 429 or 503 with Retry-After; refusals p99 < 50 ms", honest and p99 < 50)
    result = f"{good[1]:.2f}/s of {good[0]:.2f}/s: {good[1] / good[0] * 100:.0f} %"
    yield new_target("goodput at 10 × compared with 1 ×", result, "≥ 95 %", good[1] >= 0.95 * good[0])


def goodput(results: list[load.Result]) -> float:
    """Return the 200s a second, until the last of them was answered."""
    good = [r.sent + r.took for r in results if r.status == 200]
    return len(good) / max(good)


def timed(action: Callable[[], object]) -> float:
    """Return the seconds an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def leaving() -> Iterator[Target]:
    """Let clients leave in each phase; measure until Ollama's connection is closed and the slot is free."""
    for phase, hold in (("while the prompt is read", 0), ("mid-answer", 2)):
        engine = StandIn(hold_at=hold).start()
        with serve(engine.url, programs.scratch() / "gateway.log") as served:
            took = [leave(served, engine) * 1000 for _ in range(30)]
        engine.stop()
        result = f"p50 {statistics.median(took):.0f} ms, max {max(took):.0f} ms"
        yield new_target(f"client leaves {phase} → upstream closed, slot free", result, "≤ 1 s", max(took) <= 1000)


def leave(served: Served, engine: StandIn) -> float:
    """Return the seconds from a client's leaving to a closed upstream and a free slot."""
    before = engine.cancelled
    sock = served.connect("/generate", {"prompt": "x", "stream": True})
    eventually(lambda: engine.running == 1)
    if engine.hold_at:
        sock.recv(1024)
    started = time.perf_counter()
    sock.close()
    eventually(lambda: engine.cancelled == before + 1)
    eventually(lambda: served.metric("sluice_requests_in_flight") == 0)
    return time.perf_counter() - started


def leaving_real() -> Iterator[Target]:
    """Let a client leave while the real model reads a long prompt; see when the next request gets its first token.

    llama-server takes a cancel up between two batches of a prompt (512 or 1,024 tokens: num_batch), so the slot is free
    at once, and the engine once it has read the batch that it is at.
    """
    prompt = "word " * 1500
    with real_ollama(Settings(slots=1)) as ollama, gateway(ollama.url, ollama.model, slots=1) as served:

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


def memory() -> Iterator[Target]:
    """Serve 10,000 requests and 1,000 cancels and compare the worker's resident memory before and after."""
    engine = StandIn(keep_requests=False).start()
    with serve(engine.url, programs.scratch() / "gateway.log", slots=16, max_queue=256) as served:
        worker = psutil.Process(served.process.pid).children()[0]
        requests_and_cancels(served, 2000, 200)
        sizes = [worker.memory_info().rss]
        for _ in range(5):
            requests_and_cancels(served, 2000, 200)
            sizes.append(worker.memory_info().rss)
    engine.stop()
    growth = (sizes[-1] - sizes[0]) / 2**20
    result = f"{sizes[0] / 2**20:.1f} MiB before, {sizes[-1] / 2**20:.1f} MiB after"
    yield new_target(
        "memory of the gateway over 10,000 requests and 1,000 cancels, after 2,000 to warm up",
        result,
        "flat (± 2 MiB)",
        abs(growth) <= 2,
    )


def requests_and_cancels(served: Served, requests: int, cancels: int) -> None:
    """Send requests from 16 threads, and in between clients that leave at once."""

    def ask(index: int) -> None:
        if index % (requests // cancels) == 0:
            served.connect("/generate", {"prompt": "x", "stream": True}).close()
        assert fetch(f"{served.url}/generate", {"prompt": "x"}).status == 200

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(requests)))


def killers() -> Iterator[Target]:
    """Let two clients kill the engine with every try for five minutes, while a bystander asks something each second."""
    seconds, mark = 300, "kill it"
    engine = StandIn(first_delay=0.3, token_delay=0.05, killed_by=mark, down_for=1, keep_requests=False).start()
    with serve(engine.url, programs.scratch() / "gateway.log") as served, ThreadPoolExecutor(2) as pool:
        over = threading.Event()
        tries = [pool.submit(kill_until, over, served.url, f"{mark} {name}") for name in ("a", "b")]
        asked = [load.generate(served.url, prompt=f"Bystander {number}") for number in range(seconds)]
        replies = list(itertools.chain(*asyncio.run(load.open_loop(asked, 1, seconds))))
        over.set()
        refused = sum(each.result() for each in tries)
        deaths = engine.deaths
    engine.stop()
    answered = sum(reply.status == 200 for reply in replies) / len(replies) * 100
    slowest = max(reply.took for reply in replies)
    result = (
        f"{answered:.1f} % answered, the slowest in {slowest:.1f} s; {deaths} deaths in {refused} requests that kill"
    )
    what = f"two clients kill the engine with every try and retry for {seconds} s; a bystander each second"
    yield new_target(what, result, "≥ 95 % answered, ≤ 4 deaths", answered >= 95 and deaths <= 4)


def kill_until(over: threading.Event, url: str, prompt: str) -> int:
    """Send what kills the engine as OpenAI's client does, with its own retries; return how often it was refused."""
    refused = 0
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        while not over.wait(0.5):
            try:
                client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": prompt}])
            except openai.APIStatusError:
                refused += 1
    return refused


MEASURES = [added_latency, traces, throughput, dialects, streaming, real_model, parallel, overload, leaving]
MEASURES += [leaving_real, memory, killers]
