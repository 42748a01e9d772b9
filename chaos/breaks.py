"""`python -m chaos breaks`: things break on this machine, one after the other, under an honest load."""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from chaos import launched, limits, systems
from chaos.launched import full
from chaos.observe import HEAD, NEVER, Observation, Skipped, observe
from chaos.toxiproxy import toxiproxy
from command_line import listed, one_of
from launcher.console import Problem
from loadtest.reporting.document import Table
from loadtest.reporting.part import publish
from testbed.programs import scratch
from testbed.real_ollama import real_ollama

FOR = 8.0  # seconds that a fault lasts which must be mended
DEADLINES = {"queue_timeout": 5, "generation_timeout": 5}
RATE_REAL = 0.5  # requests a second that two cores answer with the small model
NOTE = (
    "Honest callers send 4 requests/s (0.5 with the real model), half of them streamed, each with a connection to "
    "itself; QUEUE_TIMEOUT is 5 s, GENERATION_TIMEOUT 5 s (10 s under the launcher). The counts cover the requests "
    "under way when it broke and all later ones, until only answers came for 3 s (6 s). A fault of the network, a disk "
    f"or a name lasts {FOR:g} s. Times count from the kill, or from the end of the fault."
)


def during(fault: Callable[[], AbstractContextManager[object]], seconds: float = FOR) -> Callable[[], None]:
    """Return a break that lasts so long."""

    def run() -> None:
        with fault():
            time.sleep(seconds)

    return run


def network() -> Iterator[Observation]:
    """Break what is between the gateway and its engine."""
    with (
        systems.Engine() as engine,
        toxiproxy(f"127.0.0.1:{engine.port}") as proxy,
        systems.gateway(proxy.url, **DEADLINES) as served,
    ):

        def seen(name: str, kind: str, stream: str = "downstream", **attributes: int) -> Observation:
            fault = during(lambda: proxy.toxic(kind, stream=stream, **attributes))
            return observe(f"network to Ollama: {name}", served.url, fault)

        yield seen("2 s of latency", "latency", latency=2000)
        yield seen("1 kB/s", "bandwidth", rate=1)
        yield seen("reset 0.3 s into an answer", "reset_peer", timeout=300)
        yield seen("a black hole for answers", "timeout", timeout=0)
        yield seen("half-open: requests never arrive", "timeout", "upstream", timeout=0)


def kills(real: bool) -> Iterator[Observation]:
    """Kill each process of `make serve`; the launcher itself is started again by what runs it."""
    ollama = ("ollama", "serve") if real else ("testbed.stand_in", "serve")
    rate = {"rate": RATE_REAL} if real else {}
    with launched.launched(real=real) as running:
        yield observe("`kill -9` of Ollama", running.url, lambda: running.kill(*ollama), **rate)
        engine = {
            "`kill -9` of Ollama's llama-server": lambda: running.kill("llama-server"),
            "Ollama's llama-server stands still (SIGSTOP)": lambda: running.halt("llama-server"),
        }
        for name, act in engine.items():
            if real:
                yield observe(name, running.url, act, **rate)
            else:
                yield Skipped(name, "the stand-in engine has none; --real runs the real one")
        worker, gateway = (lambda: running.kill("gunicorn", last=True)), (lambda: running.kill("gunicorn"))
        yield observe("`kill -9` of the gateway's worker", running.url, worker, **rate)
        yield observe("`kill -9` of the gateway (its container starts again)", running.url, gateway, **rate)
        yield observe(
            "`kill -9` of the launcher (its container starts again)", running.url, running.process.kill, **rate
        )


def disks() -> Iterator[Observation]:
    """Fill each disk that the programs write to."""
    with launched.launched() as running:
        shm = running.disk(Path("/dev/shm"))  # noqa: S108
        home = running.disk(running.home)
        yield observe("the disk of the cache and Ollama's log is full", running.url, during(lambda: full(home)))
        yield observe("the disk of shared memory is full", running.url, during(lambda: full(shm)))

        def killed() -> None:
            with full(shm), full(home):
                running.kill("gunicorn", last=True)
                running.kill("testbed.stand_in", "serve")
                time.sleep(FOR)

        yield observe("both are full, worker and Ollama are killed", running.url, killed)


def names() -> Iterator[Observation]:
    """Take the engine's name out of the DNS."""
    with launched.launched() as running:
        known = running.hosts.read_text()

        def unknown(kill: bool) -> Callable[[], None]:
            def run() -> None:
                running.hosts.write_text("127.0.0.1 localhost\n")
                try:
                    if kill:
                        running.kill("testbed.stand_in", "serve")
                    time.sleep(FOR)
                finally:
                    running.hosts.write_text(known)

            return run

        yield observe("DNS doesn't know Ollama's name", running.url, unknown(kill=False))
        yield observe("the same, and Ollama is killed", running.url, unknown(kill=True))


def memory() -> Iterator[Observation]:
    """Take the worker's memory away."""
    with systems.Engine() as engine, systems.gateway(engine.url, **DEADLINES) as served:
        name = f"the worker reaches a memory limit {limits.ROOM >> 20} MiB above what it has"
        yield observe(name, served.url, lambda: limits.fill_memory(served.url, systems.worker(served).pid))


def clock() -> Iterator[Observation]:
    """Let the wall clock jump."""
    with ExitStack() as stack:
        jumping = limits.Clock(scratch())
        engine = stack.enter_context(systems.Engine())
        served = stack.enter_context(systems.gateway(engine.url, **DEADLINES, **jumping.environ))
        yield observe("the clock jumps an hour ahead", served.url, lambda: jumping.jump(3600))
        yield observe("the clock jumps a day back", served.url, lambda: jumping.jump(-86400))


GROUPS = {"network": network, "disks": disks, "names": names, "memory": memory, "clock": clock}


def rows(chosen: Sequence[str], real: bool) -> Iterator[Observation]:
    """Yield the row of every break of the chosen groups; a group that can't be is one row that says why."""
    groups: dict[str, Callable[[], Iterator[Observation]]] = {"kills": lambda: kills(real), **GROUPS}
    for name in chosen:
        try:
            yield from groups[name]()
        except Problem as problem:
            yield Skipped(name, str(problem))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    names = ["kills", *GROUPS]
    parser.add_argument(
        "--groups", type=listed(one_of(names)), default=names, help=f"{', '.join(names)} (default: all)"
    )
    parser.add_argument("--real", action="store_true", help="kill the real Ollama with the small model")
    parser.add_argument("--publish", action="store_true", help="rewrite docs/reliability.md")


def run(options: argparse.Namespace) -> int:
    """Break things and return the exit code: 1 where callers never got answers again."""
    if options.real:
        with real_ollama():  # which puts the model into the store
            pass
    found = [row.row() for row in rows(options.groups, options.real)]
    command = f"python -m chaos breaks{' --real' if options.real else ''}"
    publish("reliability.md", "breaks", Table([HEAD, *found]), command=command, note=NOTE, rewrite=options.publish)
    return int(any(NEVER in row for row in found))
