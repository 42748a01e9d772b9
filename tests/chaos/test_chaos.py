"""The tools of chaos/: what they count, that they break what they say, and that the gateway stands it."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from chaos import attack, cost, faults, hold, limits, misbehaving, systems
from chaos.__main__ import COMMANDS, main
from chaos.attack import Attack
from chaos.bodies import BODIES, MOST, Body, post
from chaos.callers import (
    ANSWERED,
    BROKEN,
    CUT,
    ERROR,
    LOST,
    REFUSED,
    SILENT,
    Load,
    Outcome,
    judge,
    seconds_until_answer,
    seconds_until_normal,
    words,
)
from chaos.health import Health
from chaos.launched import full, launched
from chaos.observe import Seen, observe
from chaos.targets import AttackTarget
from chaos.toxiproxy import toxiproxy
from launcher.console import Problem
from loadtest.reporting.part import replaced
from testbed import ROOT
from testbed.fetching import fetch
from testbed.gateway import Served
from testbed.tools import missing, need_tool
from testbed.waiting import eventually

ERROR_BODY = b'{"error": {"code": "saturated", "message": "m", "hint": null}}'


@pytest.fixture(scope="module")
def engine(programs: None) -> Iterator[systems.Engine]:
    with systems.Engine(seconds=0.1) as engine:
        yield engine


@pytest.fixture(scope="module")
def served(engine: systems.Engine) -> Iterator[Served]:
    with systems.gateway(engine.url, slots=4, queue_timeout=2, generation_timeout=2) as served:
        yield served


@pytest.mark.parametrize(
    ("status", "comes_back", "body", "kind"),
    [
        (200, False, b'{"response": "x", "finish_reason": "stop"}', ANSWERED),
        (200, False, b'{"response": "x"}\n{"response": "", "done": true}\n', ANSWERED),
        (200, False, b'{"response": "x"}\n', SILENT),
        (200, False, b'{"response": "x"}\n{"resp', SILENT),
        (200, False, b'{"response": "x"}\n' + ERROR_BODY, BROKEN),
        (503, True, ERROR_BODY, REFUSED),
        (504, False, ERROR_BODY, ERROR),
        (500, False, b"<h1>Internal Server Error</h1>", LOST),
    ],
)
def test_an_answer_is_judged_by_what_its_caller_can_know(status: int, comes_back: bool, body: bytes, kind: str) -> None:
    assert judge(status, comes_back, body)[0] == kind


def test_times_count_from_the_break_to_the_next_answer_and_to_the_last_failure() -> None:
    kinds = [ANSWERED, ANSWERED, LOST, REFUSED, ANSWERED, LOST, ANSWERED, ANSWERED]
    outcomes = [Outcome(kind, float(second), 0.5, 503 if kind == REFUSED else 0) for second, kind in enumerate(kinds)]
    assert seconds_until_answer(outcomes, since=2.0) == 2.5
    assert seconds_until_normal(outcomes, since=2.0) == 4.0
    assert seconds_until_normal(outcomes[:6], since=2.0) is None
    assert seconds_until_normal(outcomes[:2], since=2.0) == 0.0
    assert words(outcomes) == f"5 answered, 1 {REFUSED} (503), 2 lost without an answer"


@pytest.mark.parametrize(
    ("mark", "stream", "kind"),
    [
        ("[seconds 0.1]", True, ANSWERED),
        ("[reset 0]", False, REFUSED),
        ("[reset 3]", True, BROKEN),
        ("[end 3]", True, BROKEN),
        ("[error 3]", True, BROKEN),
        ("[junk 3]", True, BROKEN),
        ("[status 500]", True, REFUSED),
        ("[hang 0]", False, ERROR),
        ("[hang 3]", True, BROKEN),
    ],
)
def test_the_engine_breaks_as_its_prompt_says_and_the_caller_is_told(
    served: Served, mark: str, stream: bool, kind: str
) -> None:
    with Load(served.url, rate=1, question=lambda number: {"prompt": f"{number} {mark}", "stream": stream}) as load:
        eventually(lambda: load.sent)
    assert {each.kind for each in load.outcomes} == {kind}


def test_the_engine_answers_in_one_piece_where_it_is_asked_to(engine: systems.Engine) -> None:
    body = {"model": "stand-in", "messages": [{"role": "user", "content": "x"}], "stream": False}
    assert fetch(f"{engine.url}/api/chat", body).json()["done"]


@pytest.mark.parametrize("kind", misbehaving.KINDS)
def test_callers_who_misbehave_leave_nothing_behind(served: Served, kind: str) -> None:
    sequence = faults.Sequence(served.url, systems.Engine(), seed=1)
    for number in range(3):
        sequence.misbehave(kind, number)
    eventually(lambda: served.metric("sluice_requests_in_flight") == 0)
    assert fetch(f"{served.url}/generate", {"prompt": f"after {kind}"}).status == 200


@pytest.mark.usefixtures("programs")
def test_sixty_random_faults_lose_nobody_and_leave_nothing_behind() -> None:
    result = faults.inflict(60, seed=3)
    assert not result.late
    assert len(result.honest) >= 10
    assert result.idle
    missed = {target["what"] for target in result.targets() if not target["passed"]}
    assert missed <= {"threads"}, result.targets()
    # So few faults don't fill the pool of threads: it grows with the requests at a time. A leak is a thread a fault.
    assert result.end.threads - result.half.threads < 30


def test_the_same_seed_draws_the_same_faults(engine: systems.Engine) -> None:
    drawn = [[faults.Sequence("", engine, seed).draw() for _ in range(50)] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.usefixtures("programs")
def test_a_killed_engine_is_seen_in_the_row_and_nobody_is_lost() -> None:
    with systems.Engine() as engine, systems.gateway(engine.url) as served:
        engine.revive(0.2)
        row = observe("kill", served.url, engine.kill)
    assert isinstance(row, Seen)
    assert row.lost == "nothing"
    assert "answered" in row.row()[1]
    assert "never" not in "".join(row.row())


def test_what_is_lost_stands_in_the_row() -> None:
    seen = Seen("x", [Outcome(LOST, 0, 1), Outcome(CUT, 3, 1), Outcome(ANSWERED, 5, 1)], mended=2.0)
    assert seen.lost == "1 cut off, which the client reports, 1 lost without an answer"
    assert seen.row()[2:4] == ["4.0 s", "3.0 s"]


@pytest.mark.parametrize("kind", attack.KINDS)
def test_slow_callers_connect_and_come_back_when_they_are_turned_away(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        slow = Attack(kind, server.getsockname(), 5, ["127.0.0.2", "127.0.0.3"])
        slow.run(0.5)
        first = server.accept()
        assert first[1][0] == "127.0.0.2"
        first[0].close()
        assert slow.figures()["opened"] == 5


def test_a_server_that_closes_is_called_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        slow = Attack("heads", server.getsockname(), 1, [])
        attacking = pool.submit(slow.run, 1.0)
        for _ in range(3):
            server.accept()[0].close()
        attacking.result()
    assert slow.figures()["turned_away"] >= 2
    assert slow.figures()["opened"] >= 3


def test_honest_callers_are_measured_beside_an_attack(served: Served) -> None:
    target = AttackTarget("test", served.url, 20.0, [served.private], ["127.0.0.2"])
    with hold.attacking("idle", target, 20, 30) as said:
        figures = hold.measure(target, seconds=1, overload=1)
    assert figures.goodput == 1.0
    assert not figures.health.failures
    assert max(each["open"] for each in said) == 20
    cells, _met = hold.row("idle", figures, figures, said)  # the refusals' times are for `make hold` to judge
    assert cells[2] == "100.0%"


def test_refusals_at_once_are_told_from_those_after_a_wait() -> None:
    times = [0.01] * 99 + [19.9]
    figures = hold.Figures([], [Outcome(REFUSED, 0, took, 503) for took in times], Health([]), full_wait=18.0)
    assert figures.refusals == pytest.approx(10)
    assert figures.refused() == "10 ms (1 more after a full wait)"
    answered = hold.Figures([Outcome(ANSWERED, 0, 1, 200)], figures.overloaded, Health([]), full_wait=18.0)
    assert hold.row("x", answered, answered, [])[1]
    lost = hold.Figures([], [Outcome(LOST, 0, 1)], Health([]), full_wait=18.0)
    assert not hold.row("x", figures, lost, [])[1]


def test_a_probe_without_an_answer_is_a_failure() -> None:
    with Health(["http://127.0.0.1:1"]) as health:
        eventually(lambda: health.asked >= 2)
    assert len(health.failures) == health.asked


def test_a_request_is_charged_with_memory_and_cpu(served: Served) -> None:
    body = Body("x", lambda: post("/generate", b'{"prompt": 1}'))
    measured = cost.measure(served, body)
    assert measured.status == "400"
    assert 0 < measured.ms < 5000
    assert measured.mib < 64


def test_the_cost_of_a_request_is_the_median_of_the_cpu_and_the_most_of_the_memory() -> None:
    tries = [cost.Cost("400", 0.1, mib, ms) for mib, ms in ((9, 85), (12, 130), (10, 90))]
    assert cost.Cost.of(tries) == cost.Cost("400", 0.1, 12, 90)
    died = cost.Cost.of([*tries[:2], cost.Cost("none, the worker died", 0.1, float("inf"), float("inf"))])
    assert died.status == "400 or none, the worker died"
    assert not died.met(BODIES[0])


def test_expensive_requests_are_within_the_body_limit() -> None:
    for body in BODIES:
        assert len(body.make().partition(b"\r\n\r\n")[2]) <= MOST, body.name


@pytest.mark.usefixtures("programs")
def test_a_process_at_its_memory_limit_is_killed_and_its_parent_is_not() -> None:
    if os.geteuid() or not limits.CGROUPS.exists():
        missing("memory limits need root")
    code = "import sys; sys.stdin.read(1); x = [bytearray(b'x' * (1 << 20)) for _ in range(200)]"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    with limits.memory_limit(child.pid):
        child.communicate(b"x", timeout=30)
    assert child.returncode == -9


@pytest.mark.usefixtures("programs")
def test_the_wall_clock_jumps_and_the_monotonic_clock_does_not(tmp_path: Path) -> None:
    need_tool("gcc", "gcc")
    clock = limits.Clock(tmp_path)
    clock.jump(86400)
    environ = os.environ | {name.upper(): value for name, value in clock.environ.items()}
    code = "import time; time.sleep(0.01); print(time.time(), time.monotonic())"
    wall, monotonic = map(float, subprocess.check_output([sys.executable, "-c", code], env=environ).split())
    assert 86000 < wall - time.time() < 87000
    assert abs(monotonic - time.monotonic()) < 60


@pytest.mark.usefixtures("network")
def test_a_slow_network_is_put_between_gateway_and_engine(engine: systems.Engine) -> None:
    need_tool("go", "golang-go")
    with toxiproxy(f"127.0.0.1:{engine.port}") as proxy:
        assert fetch(f"{proxy.url}/api/version").status == 200
        with proxy.toxic("latency", latency=300):
            started = time.monotonic()
            fetch(f"{proxy.url}/api/version")
            assert time.monotonic() - started >= 0.3


@pytest.mark.usefixtures("programs")
def test_make_serve_lives_on_small_full_disks_and_is_started_again() -> None:
    try:
        with launched() as running:
            with full(running.disk(running.home)):
                assert fetch(f"{running.url}/generate", {"prompt": "x"}).status == 200
                running.kill("gunicorn", last=True)
                eventually(running.ready, 60)
            running.process.kill()
            eventually(lambda: running.restarts == 1 and running.ready(), 90)
            family = eventually(lambda: len(found := running.family()) >= 4 and found, 90)
    except Problem as problem:
        missing(str(problem))
    assert not [each for each in family if systems.lives(each)]


def test_only_a_small_disk_of_its_own_is_filled(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="not a small disk"), full(tmp_path):
        pass


def test_each_command_rewrites_its_own_part_of_the_page() -> None:
    page = (ROOT / "docs/reliability.md").read_text()
    for part in ("breaks", "cluster", "hold gateway", "hold docker", "hold cluster", "faults", "cost"):
        assert replaced(page, part, "NEW").count("NEW\n<!-- end of") == 1
    with pytest.raises(Problem, match="no markers of nothing"):
        replaced(page, "nothing", "")


def test_the_commands_of_the_page_exist() -> None:
    page, makefile = (ROOT / "docs/reliability.md").read_text(), (ROOT / "Makefile").read_text()
    commands = [
        line.split("#")[0].split() for line in page.splitlines() if line.startswith(("make ", "python -m chaos"))
    ]
    assert len(commands) >= 7
    for command in commands:
        if command[0] == "make":
            assert f"\n{command[1]}: " in makefile
        else:
            assert command[3] in COMMANDS


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"python -m chaos {command}" in capsys.readouterr().out


def test_an_unknown_command_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["nothing"])
    assert capsys.readouterr().err.count("\n") == 1


def test_the_attack_says_each_second_what_it_has_open(served: Served) -> None:
    options = ["--url", served.url, "--count", "10", "--seconds", "1.5"]
    command = [sys.executable, "-m", "chaos", "attack", "idle", *options]
    lines = subprocess.check_output(command, cwd=ROOT, text=True, timeout=30).splitlines()
    assert json.loads(lines[-1])["open"] == 10
    assert not [each for each in psutil.process_iter() if each.ppid() == os.getpid() and "attack" in each.cmdline()]
