"""Real queues: the gateway, alone or in fours behind HAProxy, over engines of known speed, asked as a trace says."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cdk8s_manifests.haproxy_cfg import haproxy_cfg
from config import LOCAL, Autoscaling
from loadtest.bench import load
from planning.simulation import Outcome, System
from planning.speeds import Speeds
from planning.workload import Trace
from service.settings import Role
from testbed import programs
from testbed.gateway import Served, serve
from testbed.haproxy import Proxy, fronted
from testbed.ports import free_port
from testbed.waiting import eventually

TOKENS = 120  # of an answer by which speeds are measured
LONG_PROMPT = 400  # words
MAX_QUEUE = 250  # requests; the gateway has four threads for each
MAX_IN_FLIGHT = 500  # requests; HAProxy is what refuses


@dataclass(frozen=True)
class QueueUnderTest:
    """Something that queues: its address, and the HAProxy before it if there is one, which knows the waits then."""

    url: str
    proxy: Proxy | None = None


@contextmanager
def engine(speeds: Speeds, slots: int) -> Iterator[str]:
    """Run an engine of these speeds and yield its URL."""
    alone, together = speeds.decode[1], speeds.decode[slots]
    figures = {"prefill": speeds.prefill, "alone": alone, "together": together}
    with programs.stand_in("stepped", slots=slots, **figures) as url:
        yield url


@contextmanager
def gateway(speeds: Speeds, slots: int, queue_timeout: float, role: Role = Role.ALL) -> Iterator[Served]:
    """Run a gateway over an engine of its own."""
    with engine(speeds, slots) as ollama:
        log = programs.scratch() / f"gateway-{free_port()}.log"
        settings = {"role": role, "slots": slots, "max_queue": MAX_QUEUE, "queue_timeout": queue_timeout}
        with serve(ollama, log, **settings) as served:
            yield served


@contextmanager
def running(system: System) -> Iterator[QueueUnderTest]:
    """Run one gateway, or as many as the system has replicas behind HAProxy with the stages' configuration."""
    with ExitStack() as stack:
        role = Role.ALL if system.replicas == 1 else Role.BACK
        start = (gateway(system.speeds, system.slots, system.queue_timeout, role) for _ in range(system.replicas))
        pods = [stack.enter_context(pod) for pod in start]
        if system.replicas == 1:
            yield QueueUnderTest(pods[0].url)
            return
        folder = stack.enter_context(TemporaryDirectory())
        stage = replace(
            LOCAL,
            autoscaling=Autoscaling.REQUESTS,
            slots=system.slots,
            requests_per_replica=1,
            queue_timeout=int(system.queue_timeout),
            min_replicas=system.replicas,
            max_replicas=system.replicas,
            max_in_flight=MAX_IN_FLIGHT,
            front_mib=4096,
        )
        times = {"queue_timeout": system.queue_timeout, "max_in_flight": MAX_IN_FLIGHT}
        front, proxy = stack.enter_context(fronted(haproxy_cfg(stage), Path(folder), pods, **times))
        eventually(lambda: proxy.metric('haproxy_backend_active_servers{proxy="generate"}') == system.replicas)
        eventually(lambda: proxy.metric('haproxy_backend_active_servers{proxy="holder"}') == 1)
        yield QueueUnderTest(front.url, proxy)


@dataclass(frozen=True)
class Sent:
    """A request that was sent: its status, and seconds in the queue, to the whole answer, and sent too late."""

    status: int
    wait: float
    took: float
    late: float


def replay(target: QueueUnderTest, trace: Trace, name: str) -> tuple[Outcome, float]:
    """Send the trace's requests when they are due; return what became of them, and by how much 1 % were sent late.

    Where the client can't keep time, neither can what it measures.
    """
    sent = asyncio.run(_send_all(target.url, trace, name))
    waits = [each.wait for each in sent if each.status == 200]
    if target.proxy is not None:
        log = {line["request_id"]: line for line in target.proxy.log() if "queued_ms" in line}
        waits = [log[f"{name}-{index}"]["queued_ms"] / 1000 for index, each in enumerate(sent) if each.status == 200]
    outcome = Outcome(
        waits=np.array(waits),
        latencies=np.array([each.took for each in sent if each.status == 200]),
        arrived=len(sent),
        refused=sum(each.status == 503 for each in sent),
        timed_out=sum(each.status not in (200, 503) for each in sent),
        utilisation=0.0,
        most_at_once=0,
    )
    return outcome, float(np.percentile([each.late for each in sent], 99))


async def _send_all(url: str, trace: Trace, name: str) -> list[Sent]:
    started = time.perf_counter()
    requests = list(zip(trace.arrivals.tolist(), trace.prompts.tolist(), trace.answers.tolist(), strict=True))

    async def send(index: int) -> Sent:
        due, prompt, answer = requests[index]
        late = time.perf_counter() - started - due
        body = {"prompt": "word " * int(prompt), "max_tokens": int(answer)}
        headers = {"X-Request-Id": f"{name}-{index}"}
        async with client.post(f"{url}/generate", json=body, headers=headers) as reply:
            told = await reply.json()
        wait = told["timings"]["queued_ms"] / 1000 if reply.status == 200 else 0.0
        return Sent(reply.status, wait, time.perf_counter() - started - due, late)

    async with load.session() as client:
        tasks = []
        for index, (due, *_) in enumerate(requests):
            await asyncio.sleep(max(0.0, started + due - time.perf_counter()))
            tasks.append(asyncio.create_task(send(index)))
        return await asyncio.gather(*tasks)


def measure_speeds(system: System) -> Speeds:
    """Measure a pod's speeds through its gateway, as `make bench` does: streams alone, and as many as it has slots."""
    with gateway(system.speeds, system.slots, system.queue_timeout) as served:
        alone = asyncio.run(_seconds_a_token(served.url, 1))
        together = asyncio.run(_seconds_a_token(served.url, system.slots))
        prompt = asyncio.run(_answer_seconds(served.url, LONG_PROMPT, 1)) - asyncio.run(
            _answer_seconds(served.url, 1, 1)
        )
        prefill = (LONG_PROMPT - 1) / prompt
        overhead = asyncio.run(_answer_seconds(served.url, 1, TOKENS)) - (TOKENS - 1) * alone - 1 / prefill
    return Speeds(prefill=prefill, decode={1: 1 / alone, system.slots: 1 / together}, overhead=overhead)


async def _seconds_a_token(url: str, streams: int) -> float:
    """Return the median seconds between two tokens of as many streams that run at once."""
    target = load.generate(url, stream=True, max_tokens=TOKENS)
    found = []
    async with load.session() as client:
        for _ in range(max(4, 12 // streams)):
            for times in await asyncio.gather(*(load.stream_times(client, target) for _ in range(streams))):
                first, last = times[0], times[TOKENS - 1]
                found.append((last - first) / (TOKENS - 1))
    return statistics.median(found)


async def _answer_seconds(url: str, words: int, tokens: int) -> float:
    """Return the median seconds for which an answer holds its slot while nothing else runs."""
    found: list[float] = []
    async with load.session() as client:
        for _ in range(12):
            body = {"prompt": "word " * words, "max_tokens": tokens}
            async with client.post(f"{url}/generate", json=body) as reply:
                timings: dict[str, float] = (await reply.json())["timings"]
            found.append((timings["total_ms"] - timings["queued_ms"]) / 1000)
    return statistics.median(found)
