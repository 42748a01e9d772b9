"""`python -m chaos hold`: what honest callers get while thousands of slow connections are open."""

import argparse
import json
import math
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from typing import Any

from chaos import attack, targets
from chaos.callers import ANSWERED, REFUSED, UNTOLD, Load, Outcome, question, words
from chaos.health import Health
from chaos.targets import AttackTarget
from command_line import InputError, listed, number, one_of, whole
from launcher.console import say
from launcher.processes import kill_session, spawn
from loadtest.reporting.document import Table
from loadtest.reporting.part import publish
from loadtest.reporting.statistics import percentile
from loadtest.reporting.target import result
from testbed import ROOT
from testbed.fetching import fetch
from testbed.waiting import eventually

SHARE, OVERLOAD = 0.6, 10.0  # of the capacity
RAMP = 30.0  # seconds in which the attack has opened its connections: 2,000 take it 4
LONGEST = 120.0  # seconds that an attack lasts at most
HEAD = ("honest goodput", "compared with no attack", "refusals p99", "health", "connections", "result")
NOTE = (
    "Honest callers send {rate:g} requests/s (60 % of the capacity) for {seconds:g} s, then {over:g}/s for "
    "{overload:g} s, each over a new connection, first alone and then during the attack. Targets: ≥ 95 %, < 50 ms, "
    "no probe fails. Refusals after a full wait in the queue are counted separately."
)


@dataclass(frozen=True)
class Figures:
    """What was measured in one run: of honest callers, and of the probes meanwhile."""

    steady: list[Outcome]
    overloaded: list[Outcome]
    health: Health
    full_wait: float  # seconds

    @property
    def goodput(self) -> float:
        """Return the share of the steady load that was answered."""
        return sum(each.kind == ANSWERED for each in self.steady) / max(1, len(self.steady))

    @property
    def slowest(self) -> float:
        """Return the longest time to an answer under the steady load, in seconds."""
        return max((each.took for each in self.steady if each.kind == ANSWERED), default=math.inf)

    @property
    def refusals(self) -> float:
        """Return the 99th percentile of the time of refusals at once, in ms; infinite where callers heard nothing."""
        if any(each.kind in UNTOLD for each in self.overloaded):
            return float("inf")
        refused = [each.took for each in self.overloaded if each.kind == REFUSED]
        at_once = [took * 1000 for took in refused if took < self.full_wait]
        return percentile(at_once, 0.99) if at_once else 0.0

    @property
    def waited(self) -> int:
        """Return how many were refused after a full wait in the queue."""
        return sum(each.kind == REFUSED and each.took >= self.full_wait for each in self.overloaded)

    def refused(self) -> str:
        """Return both in words."""
        if self.refusals == float("inf"):
            return "some heard nothing"
        at_once = f"{self.refusals:.0f} ms" if self.refusals else "none at once"
        return at_once + (f" ({self.waited} more after a full wait)" if self.waited else "")


def measure(target: AttackTarget, seconds: float, overload: float) -> Figures:
    """Send the honest load in its two strengths."""
    with Health(target.private) as health:
        with Load(target.url, SHARE * target.capacity, patience=30) as steady:
            time.sleep(seconds)
        with Load(target.url, OVERLOAD * target.capacity, patience=30) as overloaded:
            time.sleep(overload)
    return Figures(steady.outcomes, overloaded.outcomes, health, 0.9 * target.queue_timeout)


def seconds_to_answer(url: str) -> float:
    """Return the seconds until a question is answered; infinite if it isn't."""
    began = time.monotonic()
    answered = fetch(f"{url}/generate", question(0), timeout=LONGEST).status == HTTPStatus.OK
    return time.monotonic() - began if answered else math.inf


@contextmanager
def attacking(kind: str, target: AttackTarget, count: int, seconds: float) -> Iterator[list[dict[str, Any]]]:
    """Run the attack in a process of its own, from when all its connections are opened until the block ends.

    Afterwards the list has what the attack said.
    """
    options = ["--url", target.url, "--count", str(count), "--seconds", str(seconds)]
    command = [sys.executable, "-m", "chaos", "attack", kind, *options, "--sources", ",".join(target.sources)]
    said: list[dict[str, Any]] = []
    with tempfile.NamedTemporaryFile() as output:
        process = spawn(command, death_signal=signal.SIGKILL, cwd=ROOT, output=output)
        try:
            eventually(lambda: any(each["opened"] >= count for each in _figures(output.name)), RAMP)
            yield said
        finally:
            kill_session(process)
            said += _figures(output.name)


def _figures(output: str) -> list[dict[str, Any]]:
    """Return the lines that the attack has written so far."""
    whole = Path(output).read_bytes().rpartition(b"\n")[0]
    return [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]


def row(kind: str, alone: Figures, attacked: Figures, said: list[dict[str, Any]]) -> tuple[list[str], bool]:
    """Return a line of the table, and whether the targets were met."""
    ratio = attacked.goodput / alone.goodput if alone.goodput else 0.0
    met = ratio >= 0.95 and attacked.refusals < 50 and not attacked.health.failures
    last = said[-1] if said else {"open": 0, "turned_away": 0}
    peak = max((each["open"] for each in said), default=0)
    cells = [
        kind,
        f"{attacked.goodput:.1%} ({words(attacked.steady)})",
        f"{ratio:.1%}",
        f"{attacked.refused()}; alone {alone.refused()}",
        f"{attacked.health.words()}; alone {alone.health.words()}",
        f"at most {peak} at once, {last['turned_away']} closed by the server",
        result(met),
    ]
    return cells, met


def compare(kind: str, target: AttackTarget, options: argparse.Namespace) -> tuple[list[str], bool]:
    """Measure the honest load alone and during the attack; return a line of the table, and whether targets were met."""
    alone = measure(target, options.seconds, options.overload)
    with attacking(kind, target, options.count, LONGEST) as said:
        # What slow readers ask is load like any other, until it is answered or refused.
        eventually(lambda: seconds_to_answer(target.url) <= alone.slowest, LONGEST)
        attacked = measure(target, options.seconds, options.overload)
    return row(kind, alone, attacked, said)


def hold(target: AttackTarget, options: argparse.Namespace) -> int:
    """Measure each attack, publish the table, and return the exit code."""
    rows, code = [[f"attack, {options.count:,} connections", *HEAD]], 0
    for kind in options.kinds:
        say(f"{target.name}: {kind} …")
        cells, met = compare(kind, target, options)
        say(" | ".join(cells))
        rows.append(cells)
        code = code if met else 1
        time.sleep(options.rest)
    rates = {"rate": SHARE * target.capacity, "over": OVERLOAD * target.capacity}
    note = NOTE.format(**rates, seconds=options.seconds, overload=options.overload)
    part = f"hold {options.target}"
    command = f"python -m chaos hold --target {options.target}"
    publish("reliability.md", part, Table(rows), command=command, note=note, rewrite=options.publish)
    return code


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add, seconds = parser.add_argument, number(above=True, of="seconds")
    addresses, rate = attack.addresses, number(above=True, of="answers/s")
    add("--target", type=one_of(["url", *TARGETS]), default="gateway", help=f"{', '.join(TARGETS)} or url")
    add("--url", help="with --target url: a Sluice of one's own")
    add("--private", type=addresses, default=[], help="with --target url: URLs of private ports, with commas")
    add("--sources", type=addresses, default=[], help="with --target url: addresses to attack from, with commas")
    add("--capacity", type=rate, default=8.0, help="with --target url: answers/s (default %(default)s)")
    add("--queue-timeout", type=seconds, default=30.0, help="with --target url: its QUEUE_TIMEOUT")
    kinds = listed(one_of(attack.KINDS))
    add("--kinds", type=kinds, default=list(attack.KINDS), help="attacks, with commas (default: all)")
    add("--count", type=whole(1), default=2000, help="slow connections (default %(default)s)")
    add("--seconds", type=seconds, default=20.0, help="of the steady load (default %(default)s)")
    add("--overload", type=seconds, default=8.0, help="seconds of the overload (default %(default)s)")
    add("--rest", type=number(of="seconds"), default=5.0, help="seconds after each attack (default %(default)s)")
    add("--publish", action="store_true", help="rewrite docs/reliability.md")


def run(options: argparse.Namespace) -> int:
    """Measure and return the exit code. Raises InputError."""
    if options.target != "url":
        with TARGETS[options.target]() as target:
            return hold(target, options)
    if not options.url:
        raise InputError("--url is missing: --target url needs the address of a Sluice of one's own")
    url, capacity = options.url, options.capacity
    target = AttackTarget(url, url.rstrip("/"), capacity, options.private, options.sources, options.queue_timeout)
    return hold(target, options)


@contextmanager
def _cluster() -> Iterator[AttackTarget]:
    with import_module("chaos.on_cluster").target() as target:  # its libraries take seconds to load
        yield target


TARGETS = {"gateway": targets.gateway, "docker": targets.docker, "cluster": _cluster}
