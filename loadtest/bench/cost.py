"""What the gateway costs a request: milliseconds, requests/s, bytes of memory, with a stand-in for the model."""

import asyncio
import itertools
import statistics
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import psutil
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from loadtest.bench import load, systems
from loadtest.reporting.statistics import percentile
from loadtest.reporting.target import Target, new_target
from testbed import programs
from testbed.fetching import fetch
from testbed.gateway import Served, serve
from testbed.stand_in import MODEL, StandIn
from testbed.waiting import eventually


def added_latency() -> Iterator[Target]:
    """Ask the stand-in directly, through the gateway and through the naive app in turn, 50 requests a second each."""
    with (
        programs.stand_in("scripted", tokens=20) as ollama,
        systems.gateway(ollama, slots=16) as served,
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
        systems.gateway(ollama, slots=16) as without,
        systems.gateway(ollama, slots=16, otel_exporter_otlp_endpoint=endpoint) as traced,
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
        with systems.gateway(ollama, slots=64) as served:
            rates["gateway"] = asyncio.run(load.closed_loop(load.generate(served.url), 32, 15))
        with systems.naive(ollama) as url:
            rates["naive"] = asyncio.run(load.closed_loop(load.generate(url), 32, 15))
        with systems.litellm(ollama) as url:
            body = {"model": MODEL, "messages": [{"role": "user", "content": "Say something."}]}
            request = load.Request(f"{url}/v1/chat/completions", body)
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
    with programs.stand_in("scripted", tokens=20) as ollama, systems.gateway(ollama, slots=64) as served:
        requests = [load.Request(f"{served.url}{path}", body) for path, body in bodies.items()]
        for request in requests:
            asyncio.run(load.closed_loop(request, 4, 1))
        rates = [asyncio.run(load.closed_loop(request, 32, 8)) for request in requests]
        latencies = asyncio.run(load.open_loop(requests, 20 * len(requests), 20))
        with systems.litellm(ollama) as url:
            request = load.Request(f"{url}/v1/chat/completions", {"model": MODEL, "messages": said})
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
    with (
        programs.stand_in("scripted", tokens=tokens, token_delay=token_delay) as ollama,
        systems.gateway(ollama) as served,
    ):
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
