"""Does `make bill` charge each key for what the engine did for it?"""

import itertools
import re
import time
from collections.abc import Iterator

import psutil

from cost.bill import IDLE, Usage, parse, rows
from loadtest.bench import systems
from loadtest.reporting.target import Target, new_target
from service.settings import Settings
from testbed import programs
from testbed.fetching import fetch
from testbed.gateway import Served, serve
from testbed.real_ollama import real_ollama

SECONDS = 600
# What is asked in turn: the key, the words of its prompt, and the most tokens of the answer.
MIX = (("short", 20, 32), ("long", 200, 96), ("short", 20, 32))
KEYS = list(dict.fromkeys(key for key, *_ in MIX))
# A request in Ollama's log: [GIN] 2026/11/27 - 18:10:02 | 200 |  1.2s | 127.0.0.1 | POST "/api/chat"
ANSWERED = re.compile(r'\[GIN\].*\| 200 \|\s*(\S+) \|.*POST +"/api/chat"')
UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6}


def billing() -> Iterator[Target]:
    """Have two keys ask for ten minutes, one request at a time, so that all that the engine uses is the asker's."""
    log = programs.scratch() / "billed.log"
    with real_ollama(Settings(slots=1)) as ollama:
        with serve(ollama.url, log, model=ollama.model, slots=1, api_keys_file=systems.keys_file(KEYS)) as served:
            began, known = time.monotonic(), len(ollama.log())
            used = ask_in_turn(served, psutil.Process(ollama.process.pid), began + SECONDS)
            took = time.monotonic() - began
            served.process.terminate()  # at which it writes its last line
            served.process.wait(60)
        engine = by_key(seconds(text) for text in ANSWERED.findall(ollama.log()[known:]))
    usage = Usage()
    for line in filter(None, map(parse, log.read_text().splitlines())):
        usage.add(line)
    billed = {row.key: row for row in rows(usage, {ollama.model: 1.0})}
    keys = [billed[key] for key in KEYS]
    what = f"bill of two keys over {took:.0f} s: slot-seconds in all, compared with the engine's log"
    ours, theirs = sum(row.slot_seconds for row in keys), sum(engine.values())
    yield new_target(what, f"{ours:.1f} of {theirs:.1f} s: {ours / theirs:.1%}", "within 1 %", near(ours, theirs, 0.01))
    dollars, cpu = sum(row.usd for row in keys), sum(used.values())
    for row in keys:
        share, right = row.usd / dollars, used[row.key] / cpu
        told = f"{share:.1%} of the dollars, {right:.1%} of the engine's CPU time, "
        told += f"{engine[row.key] / theirs:.1%} of the time in its log"
        passed = near(share, right, 0.03) and near(share, engine[row.key] / theirs, 0.03)
        yield new_target(f"the key `{row.key}` of the same bill", told, "within 3 %", passed)
    hours, paid = sum(usage.pod_seconds.values()) / 3600, dollars + billed[IDLE].usd
    told = f"{paid:.4f} dollars for {hours:.4f} hours at a dollar"
    yield new_target("all rows of the same bill, with what was idle", told, "within 1 %", near(paid, hours, 0.01))


def ask_in_turn(served: Served, engine: psutil.Process, until: float) -> dict[str, float]:
    """Ask until then, and return the seconds of CPU that the engine used, by key."""
    used = dict.fromkeys(KEYS, 0.0)
    for number, (key, words, answer) in enumerate(itertools.cycle(MIX)):
        if time.monotonic() > until and number % len(MIX) == 0:
            return used
        body = {"prompt": f"Story {number}. " + "Then the cat left. " * (words // 4), "max_tokens": answer}
        before = cpu_seconds(engine)
        reply = fetch(f"{served.url}/generate", body, {"Authorization": f"Bearer {key}"})
        assert reply.status == 200, reply.body
        used[key] += cpu_seconds(engine) - before
    raise AssertionError  # a cycle doesn't end


def cpu_seconds(engine: psutil.Process) -> float:
    """Return what a process and those below it have used."""
    times = [process.cpu_times() for process in (engine, *engine.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def by_key(durations: Iterator[float]) -> dict[str, float]:
    """Return the sum of durations by key; they are in the order of MIX."""
    found = dict.fromkeys(KEYS, 0.0)
    for (key, *_), duration in zip(itertools.cycle(MIX), durations, strict=False):
        found[key] += duration
    return found


def seconds(text: str) -> float:
    """Return a duration as Go writes it, such as 1m2.5s, in seconds."""
    return sum(float(value) * UNITS[unit] for value, unit in re.findall(r"([\d.]+)(h|ms|µs|m|s)", text))


def near(value: float, right: float, share: float) -> bool:
    """Say whether a value is within a share of the right one."""
    return abs(value - right) <= share * right
