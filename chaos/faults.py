"""`python -m chaos faults`: random faults of callers and of the engine under an honest load, drawn from a seed."""

import argparse
import asyncio
import random
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp

from chaos import misbehaving, systems
from chaos.callers import ANSWERED, UNTOLD, Load, Outcome, ask, words
from command_line import whole
from launcher.console import say
from loadtest.reporting.part import publish
from loadtest.reporting.target import Target, all_passed, new_target, targets_table
from testbed.gateway import Served

DEADLINES = {"queue_timeout": 4, "generation_timeout": 4}  # seconds
MARGIN = 5.0  # seconds beyond the deadlines in which an honest caller must have heard
SETTLE = 30.0  # seconds after the last fault in which the gateway must be idle
RATES = {"honest": 3.0, "faults": 12.0}  # a second
MIB = 2**20
# Of 100 faults: the engine's, by the mark in a prompt; what is left are the callers'.
MARKS = {
    "[reset {at}]": 7,
    "[end {at}]": 7,
    "[error {at}]": 7,
    "[junk {at}]": 5,
    "[status 500]": 7,
    "[status 503]": 3,
    "[status 400]": 3,
    "[seconds 3]": 5,
    "[hang {at}]": 3,
    "[die {at}]": 2,
    "pause": 1,
}


@dataclass(frozen=True)
class State:
    """What the gateway holds at a moment."""

    in_flight: float
    queued: float
    threads: int
    descriptors: int
    mib: float

    @classmethod
    def of(cls, served: Served) -> "State":
        """Look at a running gateway."""
        process = systems.worker(served)
        running, queued = (served.metric(f"sluice_requests_{name}") for name in ("in_flight", "queued"))
        return cls(running, queued, process.num_threads(), process.num_fds(), process.memory_info().rss / MIB)


@dataclass
class Sequence:
    """The faults, the same for the same seed; what the callers whose requests had them saw is in `outcomes`."""

    url: str
    engine: systems.Engine
    seed: int
    outcomes: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)  # noqa: S311
        self._number = 0

    def run(self, count: int) -> None:
        """Bring about so many more, at random distances, and return once all their callers have gone."""
        asyncio.run(self._run(count))

    async def _run(self, count: int) -> None:
        patience = aiohttp.ClientTimeout(total=sum(DEADLINES.values()) + MARGIN)
        connector = aiohttp.TCPConnector(limit=0)  # keeps connections, so that they are used again after faults
        async with aiohttp.ClientSession(connector=connector, timeout=patience) as client, asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(self._fault(client))
                await asyncio.sleep(self._chance.expovariate(RATES["faults"]))

    def draw(self) -> str:
        """Return the next fault: the mark for the engine's prompt, `pause`, or what a caller does wrong."""
        drawn = self._chance.randrange(100)
        for mark, share in MARKS.items():
            if drawn < share:
                return mark.format(at=self._chance.randrange(10))
            drawn -= share
        return self._chance.choice(misbehaving.KINDS)

    def misbehave(self, kind: str, number: int) -> None:
        """Let one caller do something wrong."""
        asyncio.run(self._caller(number).run(kind))

    def _caller(self, number: int) -> misbehaving.Misbehaviour:
        parts = urlsplit(self.url)
        chance = random.Random(self.seed + number)  # noqa: S311
        return misbehaving.Misbehaviour(parts.hostname or "", parts.port or 80, chance, number)

    async def _fault(self, client: aiohttp.ClientSession) -> None:
        self._number += 1
        number, fault = self._number, self.draw()
        if fault in misbehaving.KINDS:
            await self._caller(number).run(fault)
        elif fault == "pause":
            self.engine.pause()
            await asyncio.sleep(2)
            self.engine.resume()
        else:
            body = {"prompt": f"Fault {number}: {fault}", "stream": bool(number % 2), "max_tokens": 16}
            self.outcomes.append(await ask(client, self.url, body))


@dataclass(frozen=True)
class Result:
    """What a run showed: the states half-way and at the end, both idle, and what every caller saw."""

    honest: list[Outcome]
    faulty: list[Outcome]
    half: State
    end: State
    deaths: int
    idle: bool

    @property
    def late(self) -> list[Outcome]:
        """Return the honest requests that were not answered or told within their deadline."""
        limit = sum(DEADLINES.values()) + MARGIN
        return [each for each in self.honest if each.took > limit or each.kind in UNTOLD]

    def targets(self) -> list[Target]:
        """Return what was to be reached."""
        worst = max((each.took for each in self.honest), default=0.0)
        limit = sum(DEADLINES.values()) + MARGIN
        told = not any(each.kind in UNTOLD for each in self.faulty)
        share = sum(each.kind == ANSWERED for each in self.honest) / max(1, len(self.honest))
        end, half = self.end, self.half
        threads, files, mib = (getattr(end, name) - getattr(half, name) for name in ("threads", "descriptors", "mib"))
        return [
            new_target("honest callers", words(self.honest), "each answered or told", not self.late),
            new_target("the longest of them waited", f"{worst:.1f} s", f"≤ {limit:g} s", worst <= limit),
            new_target("of them answered", f"{share:.0%}", "–", True),
            new_target("callers whose request broke the engine", words(self.faulty), "each told", told),
            new_target("deaths of the engine", self.deaths, "–", True),
            new_target(
                "slots taken, requests queued at the end", f"{end.in_flight:g}, {end.queued:g}", "0, 0", self.idle
            ),
            new_target("threads", f"{half.threads} half-way, {end.threads} at the end", "+ ≤ 8", threads <= 8),
            new_target(
                "open files", f"{half.descriptors} half-way, {end.descriptors} at the end", "+ ≤ 16", files <= 16
            ),
            new_target("memory", f"{half.mib:.1f} MiB half-way, {end.mib:.1f} MiB at the end", "+ ≤ 8 MiB", mib <= 8),
        ]


def inflict(count: int, seed: int) -> Result:
    """Start the gateway and its engine, bring about the faults under load, and say what came of it."""
    with systems.Engine() as engine, systems.gateway(engine.url, **DEADLINES) as served:
        engine.revive(0.5)
        faults = Sequence(served.url, engine, seed)
        with Load(served.url, RATES["honest"], patience=sum(DEADLINES.values()) + 2 * MARGIN) as load:
            faults.run(count // 2)
            half = settled(served)
            faults.run(count - count // 2)
        end = settled(served)
        idle = end.in_flight == end.queued == 0
        return Result(load.outcomes, faults.outcomes, half, end, engine.deaths, idle)


def settled(served: Served) -> State:
    """Return the gateway's state once it has no more requests than the honest load, or after half a minute."""
    until = time.monotonic() + SETTLE
    while (state := State.of(served)).in_flight + state.queued and time.monotonic() < until:
        time.sleep(0.1)
    return state


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--count", type=whole(1), default=1000, help="faults (default %(default)s)")
    add("--seed", type=whole(), default=1, help="the same seed draws the same faults (default %(default)s)")
    add("--publish", action="store_true", help="rewrite docs/reliability.md")


def run(options: argparse.Namespace) -> int:
    """Run a sequence and return the exit code."""
    say(f"{options.count} faults, about {options.count / RATES['faults']:.0f} s …")
    result = inflict(options.count, options.seed)
    command = f"python -m chaos faults --count {options.count} --seed {options.seed}"
    publish("reliability.md", "faults", targets_table(result.targets()), command=command, rewrite=options.publish)
    for each in result.late[:10]:
        say(f"{each}")
    return 0 if all_passed(result.targets()) else 1
