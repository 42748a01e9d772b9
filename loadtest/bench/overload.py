"""What callers get from a gateway that is overloaded, left, or asked what kills its engine."""

import asyncio
import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import openai

from loadtest.bench import load, systems
from loadtest.reporting.statistics import percentile
from loadtest.reporting.target import Target, new_target
from testbed import programs
from testbed.fetching import fetch
from testbed.gateway import Served, serve
from testbed.stand_in import MODEL, StandIn
from testbed.waiting import eventually


def overload() -> Iterator[Target]:
    """Offer 1 × and 10 × of what the slots can serve, for a minute each."""
    slots, seconds = 4, 60
    with (
        programs.stand_in("scripted", tokens=20, first_delay=0.2, token_delay=0.01) as ollama,
        systems.gateway(ollama, slots=slots) as served,
    ):
        capacity = slots / service_time(served)
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


def fair_shares() -> Iterator[Target]:
    """Let two keys together ask twice what the slots can serve, for a minute: as much each, then ten times as much."""
    keys = ("greedy", "modest")
    file = systems.keys_file(keys)
    slots, seconds = 4, 60
    with (
        programs.stand_in("scripted", tokens=20, first_delay=0.2, token_delay=0.01) as ollama,
        systems.gateway(ollama, slots=slots) as served,
    ):
        capacity = slots / service_time(served)
    for times in (1, 10):
        with (
            programs.stand_in("scripted", tokens=20, first_delay=0.2, token_delay=0.01) as ollama,
            serve(ollama, programs.scratch() / "shares.log", slots=slots, api_keys_file=file) as served,
        ):
            greedy, modest = (load.generate(served.url).with_key(key) for key in keys)
            asked = [greedy] * times + [modest]
            *most, few = asyncio.run(load.open_loop(asked, 2 * capacity, seconds))
        answered = [sum(each.status == 200 for each in kind) for kind in (list(itertools.chain(*most)), few)]
        share, demand = answered[1] / sum(answered), 2 / (times + 1)
        fair = min(0.5, demand)
        told = f"{share:.1%} of {sum(answered)} answers for the one that asks {demand:.2f} × the capacity"
        told += f"; fair: {fair:.1%}"
        what = f"two keys at 2 × the capacity, of which one asks {times} × as much, for {seconds} s"
        yield new_target(what, told, "within 5 points", abs(share - fair) <= 0.05)


def two_models() -> Iterator[Target]:
    """Ask one model at 60 % of its capacity for a minute, first alone, then while another gets 10 times its own."""
    slots, seconds, service = 4, 60, 0.4
    capacity = slots / service
    with (
        programs.stand_in("timed", slots=slots, seconds=service, variation=0) as ollama,
        serve(ollama, programs.scratch() / "models.log", model="calm busy", slots=slots) as served,
    ):
        calm, busy = (load.generate(served.url, model=model) for model in ("calm", "busy"))
        [alone] = asyncio.run(load.open_loop([calm], 0.6 * capacity, seconds))
        asked = [busy] * 16 + [calm]  # near to 10 : 0.6
        *most, few = asyncio.run(load.open_loop(asked, 10.6 * capacity, seconds))
    refused = sum(each.status == 503 for each in itertools.chain(*most))
    answered = [sum(each.status == 200 for each in part) / len(part) for part in (alone, few)]
    tails = [percentile([each.took for each in part], 0.95) for part in (alone, few)]
    result = f"{answered[1]:.1%} of {len(few)} answered, p95 {tails[1]:.2f} s; alone {answered[0]:.1%}, "
    result += f"{tails[0]:.2f} s; the other model refused {refused} requests"
    what = f"a model at 60 % of its capacity next to one that is asked for 10 ×, {seconds} s"
    passed = answered[1] == 1 and tails[1] <= 1.1 * tails[0]
    yield new_target(what, result, "100 %; p95 ≤ 1.1 × alone", passed)


def service_time(served: Served) -> float:
    """Return the median seconds of a request alone."""
    return statistics.median(timed(lambda: fetch(f"{served.url}/generate", {"prompt": "x"})) for _ in range(10))


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
