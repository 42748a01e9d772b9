import heapq
import json
import math
import re
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from command_line import InputError, Parser
from config import PROD, STAGES, ConfigError
from loadtest.reporting.statistics import student
from planning import options, report, search
from planning.__main__ import main
from planning.load_report import read_report
from planning.search import Slo, smallest
from planning.simulation import Outcome, Simulation, System
from planning.speeds import Speeds
from planning.workload import NO_PROMPT, Length, Numbers, Trace, Workload
from testbed import ROOT
from tests.support.several_models import TWO_NODES

STEADY = Speeds(prefill=math.inf, decode={1: 1.0, 8: 1.0}, given=0, joining=0)  # a slot's work takes its seconds
REAL = Speeds(prefill=350, decode={1: 17, 8: 10.5}, overhead=0.003)
PATIENT = System(replicas=1, slots=4, speeds=STEADY, queue_timeout=1e6, generation_timeout=1e6)
ASKED = ["plan", "--rate", "4", "--prompt", "60:40", "--answer", "150:80", "--region", "us-east-1"]
SPEEDS = ["--prefill", "350", "--decode", "1:17,8:10.5"]


class Exponential:
    """Lengths of mean 1, with which the queue is one that Erlang has solved."""

    def draw(self, count: int, random: np.random.Generator) -> Numbers:
        return random.exponential(1.0, count)


def poisson(rate: float, count: int, seed: int) -> Trace:
    random = np.random.default_rng(seed)
    arrivals = np.cumsum(random.exponential(1 / rate, count))
    return Trace(arrivals, np.zeros(count), Exponential().draw(count, random))


def trace(*requests: tuple[float, float, float]) -> Trace:
    arrivals, prompts, answers = zip(*requests, strict=True)
    return Trace(np.array(arrivals), np.array(prompts), np.array(answers))


def erlang_wait(servers: int, load: float) -> float:
    """Return the mean wait in service times of a queue before `servers`, each busy for `load` of the time."""
    offered, blocked = servers * load, 1.0
    for server in range(1, servers + 1):
        blocked = offered * blocked / (server + offered * blocked)
    waits = blocked / (1 - load * (1 - blocked))
    return waits / (servers * (1 - load))


@pytest.mark.parametrize(("replicas", "slots", "load"), [(1, 1, 0.7), (4, 1, 0.85), (4, 4, 0.9)])
def test_a_queue_that_erlang_has_solved_has_his_mean_wait(replicas: int, slots: int, load: float) -> None:
    servers = replicas * slots
    system = replace(PATIENT, replicas=replicas, slots=slots)
    runs = [Simulation(system, poisson(load * servers, 6000, seed), 1000).run() for seed in range(6)]
    mean = student([float(run.waits.mean()) for run in runs])
    assert mean.low <= erlang_wait(servers, load) <= mean.high
    assert mean.high - mean.low < erlang_wait(servers, load)  # or anything would do
    assert np.mean([run.utilisation for run in runs]) == pytest.approx(load, abs=0.03)


def test_slots_of_a_pod_slow_each_other() -> None:
    speeds = replace(STEADY, decode={1: 1.0, 2: 0.5, 3: 0.25})
    system = replace(PATIENT, slots=3, speeds=speeds)
    alone = Simulation(system, trace((0, 0, 4))).run()
    assert alone.latencies.tolist() == [4]
    # Two have half the speed each from 1 s on: the first has 3 s of work left then, and ends at 7 s with the second.
    both = Simulation(system, trace((0, 0, 4), (1, 0, 3))).run()
    assert sorted(both.latencies) == [6, 7]


def step_by_step(requests: Trace, slots: int, speeds: Speeds) -> tuple[list[float], list[float]]:
    """Return the waits and latencies of a pod that goes step by step, as llama.cpp does: the slow way to the truth."""
    seconds = [0.0, *(1 / speed for speed in speeds.decode_with(slots)[1:])]
    free, now = [0.0] * slots, 0.0
    pending = deque(zip(requests.arrivals, requests.prompts, requests.answers, strict=True))
    running: list[list[float]] = []
    waits, latencies = [], []
    while pending or running:
        if not running:
            now = max(now, pending[0][0], free[0])
        while pending and free and max(pending[0][0], free[0]) <= now:
            arrived, prompt, answer = pending.popleft()
            waits.append(max(0.0, heapq.heappop(free) - arrived))
            running.append([arrived, prompt, answer])
        writing = sum(not unread for _, unread, _ in running)
        now += seconds[writing] + sum(unread for _, unread, _ in running) / speeds.prefill
        running = [[arrived, 0, left - 1] for arrived, _, left in running]
        for arrived, _, left in running:
            if left <= 0:
                latencies.append(now + speeds.overhead - arrived)
                heapq.heappush(free, now + speeds.overhead)
        running = [request for request in running if request[2] > 0]
    return waits, latencies


def test_a_pod_takes_as_long_as_one_that_is_followed_step_by_step() -> None:
    speeds = Speeds(prefill=1600, decode={1: 18, 4: 12}, overhead=0.02)
    workload = Workload(rate=0.95 * speeds.requests_per_second(4, 40, 24), prompt=Length(40, 20), answer=Length(24, 16))
    requests = workload.trace(3000, 2)
    waits, latencies = step_by_step(requests, 4, speeds)
    outcome = Simulation(replace(PATIENT, speeds=speeds), requests).run()
    assert outcome.p95_wait() == pytest.approx(np.percentile(waits, 95), rel=0.05)
    assert np.mean(outcome.latencies) == pytest.approx(np.mean(latencies), rel=0.03)


def test_requests_go_to_the_pod_with_the_fewest() -> None:
    system = replace(PATIENT, replicas=2, slots=2, speeds=replace(STEADY, decode={1: 1.0, 2: 0.5}))
    apart = Simulation(system, trace((0, 0, 4), (1, 0, 3))).run()
    assert sorted(apart.latencies) == [3, 4]


def test_while_a_prompt_is_read_the_answers_beside_it_stand_still() -> None:
    speeds = Speeds(prefill=10, decode={1: 1, 2: 1}, given=0, joining=0)
    outcome = Simulation(replace(PATIENT, slots=2, speeds=speeds), trace((0, 0, 5), (1, 20, 3))).run()
    assert outcome.latencies.tolist() == [5, 7]  # in the order of their ends; 20 tokens take 2 s


def test_a_request_joins_others_at_their_next_step() -> None:
    speeds = Speeds(prefill=10, decode={1: 2, 2: 2}, given=1, joining=1.5, overhead=0.25)
    outcome = Simulation(replace(PATIENT, slots=2, speeds=speeds), trace((0, 10, 21), (5, 10, 5))).run()
    # The second: 1.5 tokens' time until it joins, its prompt, 4 tokens of half a second; the first stands still 1 s.
    assert outcome.latencies.tolist() == pytest.approx([0.75 + 1 + 2 + 0.25, 1 + 10 + 1 + 0.25])


def test_between_two_measured_counts_the_time_of_a_token_grows_evenly() -> None:
    each = Speeds(prefill=1, decode={1: 10, 3: 5}).decode_with(3)
    assert each[1:] == pytest.approx([10, 1 / 0.15, 5])
    with pytest.raises(ConfigError, match="needs them at 1 and at 4"):
        Speeds(prefill=1, decode={1: 10, 3: 5}).decode_with(4)


def test_a_request_is_refused_as_the_gateway_refuses_it() -> None:
    system = replace(PATIENT, slots=1, queue_timeout=3)
    # The first teaches that work takes 2 s. Then one runs, one waits, and a third would wait for 4 s.
    told = Simulation(system, trace((0, 0, 2), (10, 0, 2), (10, 0, 2), (10, 0, 2))).run()
    assert (told.refused, told.waits.tolist()) == (1, [0, 0, 2])


def test_a_wait_ends_at_the_queues_deadline_and_a_generation_at_its_own() -> None:
    system = replace(PATIENT, slots=1, queue_timeout=3, generation_timeout=5)
    outcome = Simulation(system, trace((0, 0, 9), (1, 0, 1), (3, 0, 1), (20, 0, 1))).run()
    assert (outcome.refused, outcome.timed_out) == (1, 1)
    assert outcome.waits == pytest.approx([2, 0])  # the one of 3 s got the slot at 5 s
    assert outcome.unanswered == 0.5


def test_an_overload_is_refused_and_no_more_than_that() -> None:
    system = replace(PATIENT, slots=4, queue_timeout=3)
    outcome = Simulation(system, poisson(8, 20_000, 1), 1000).run()
    assert outcome.unanswered == pytest.approx(0.5, abs=0.03)
    assert outcome.utilisation == pytest.approx(1, abs=0.01)
    assert outcome.waits.max() <= 3.001


def test_the_same_seed_gives_the_same_run_and_another_one_another() -> None:
    workload = Workload(rate=3, prompt=Length(60, 40), answer=Length(150, 80, 512))
    system = replace(PATIENT, replicas=6, slots=8, speeds=REAL)
    first, again, other = (Simulation(system, workload.trace(500, seed)).run() for seed in (1, 1, 2))
    assert first.latencies.tolist() == again.latencies.tolist()
    assert first.latencies.tolist() != other.latencies.tolist()


def test_more_replicas_never_make_it_worse() -> None:
    workload = Workload(rate=4, prompt=Length(60, 40), answer=Length(150, 80, 512))
    requests = workload.trace(4000, 1)
    system = replace(PATIENT, slots=8, speeds=REAL, queue_timeout=30, generation_timeout=120)
    runs = [Simulation(replace(system, replicas=count), requests, 500).run() for count in (6, 7, 8, 9, 12)]
    for figure in (Outcome.p95_wait, Outcome.p95_latency, lambda run: run.unanswered):
        values = [figure(run) for run in runs]
        assert values == sorted(values, reverse=True)
    assert runs[0].p95_wait() > 5
    assert runs[-1].p95_wait() == 0


def test_lengths_have_the_mean_and_spread_asked_for_and_are_cut_off() -> None:
    drawn = Length(150, 80).draw(200_000, np.random.default_rng(1))
    assert drawn.mean() == pytest.approx(150, rel=0.01)
    assert drawn.std() == pytest.approx(80, rel=0.02)
    short = Length(150, 80, 200)
    assert short.draw(1000, np.random.default_rng(1)).max() == 200
    assert short.cut() == pytest.approx((drawn > 200).mean(), abs=0.005)
    assert set(Length(7, 0).draw(9, np.random.default_rng(1))) == {7}
    assert (Length(7, 0, 6).cut(), Length(7, 0, 8).cut()) == (1, 0)


@pytest.mark.parametrize("guess", [1, 3, 39, 40, 41, 200])
def test_the_smallest_number_is_found_from_any_guess(guess: int) -> None:
    asked: list[int] = []

    def kept(replicas: int) -> bool:
        asked.append(replicas)
        return replicas >= 40

    assert smallest(kept, guess) == 40
    assert min(asked) >= 1
    assert len(asked) < 20


def test_an_objective_that_no_number_keeps_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST", 100)
    with pytest.raises(InputError, match="keep the objective"):
        smallest(lambda _: False, 5)


def test_a_load_report_gives_the_work_of_requests_that_waited_for_nobody(tmp_path: Path) -> None:
    # Two slots on one pod, at half the speed when both are taken: 200 pairs of 3 s of work, the second 1 s later.
    requests = []
    for pair in range(200):
        requests += [[pair * 100, 5, "answered", 1], [pair * 100 + 1, 5, "answered", 1]]
    requests.append([30_000, 3, "refused", 1])
    requests += [[40_000 + extra, 50, "answered", 1] for extra in range(3)]  # one too many for two slots
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"requests": requests, "samples": [{"ready": 0}, {"ready": 1}, {"ready": 1}]}))
    seconds = read_report(path, slots=2, speeds=replace(STEADY, decode={1: 1.0, 2: 0.5}))
    assert len(seconds) == 400
    assert seconds == pytest.approx(1 + 4 * 0.5)


@pytest.mark.usefixtures("programs")  # a process for each CPU
def test_a_plan_from_a_load_report_needs_as_many_slots_as_it_kept_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search, "REQUESTS", 1000)
    path = tmp_path / "report.json"
    requests = [[20 * index, 12, "answered", 1] for index in range(100)]
    path.write_text(json.dumps({"requests": requests, "samples": [{"ready": 4}]}))
    main(["plan", "--rate", "1", "--slots", "1", "--report", str(path), "--refused", "1", "--region", "us-east-1"])
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| c7i.2xlarge, 1 |"))
    replicas = int(line.split("**")[1])
    assert 11 <= replicas <= 15  # 1/s × 12 s = 12 slots; its queue waits for up to 30 s


@pytest.mark.usefixtures("programs")  # a process for each CPU
def test_the_command_compares_instance_types_and_recommends_the_cheaper(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search, "REQUESTS", 1500)
    speeds = ["--prefill", "c7i.xlarge=150", "--prefill", "c7i.2xlarge=350"]
    speeds += ["--decode", "c7i.xlarge=1:9,4:6", "--decode", "c7i.2xlarge=1:17,8:10.5"]
    types = [
        "--instance",
        "c7i.xlarge",
        "--instance",
        "c7i.2xlarge",
        "--slots",
        "c7i.xlarge=4",
        "--slots",
        "c7i.2xlarge=8",
    ]
    main([*ASKED, *speeds, *types, "--p95-wait", "2"])
    out = capsys.readouterr().out
    small, large = (next(line for line in out.splitlines() if line.startswith(f"| c7i.{size}")) for size in ("x", "2x"))
    counts = [int(line.split("**")[1]) for line in (small, large)]
    assert counts[0] > 2 * counts[1] > 12
    dollars = [float(line.split("|")[-2].replace(",", "")) for line in (small, large)]
    assert dollars[0] > dollars[1]
    assert f"Take {report.without_a_zone(counts[1], PROD.zones)} × c7i.2xlarge" in out
    assert f"and with one replica gone by {counts[1] + 1}" in out


@pytest.mark.usefixtures("programs")  # a process for each CPU
def test_one_of_several_models_is_planned_with_its_own_pods(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search, "REQUESTS", 500)
    monkeypatch.setitem(STAGES, "two", TWO_NODES)
    asked = ["plan", "--stage", "two", "--rate", "9", "--prompt", "60:40", "--answer", "1", "--region", "us-east-1"]
    speeds = ["--prefill", "400", "--decode", "1:50,2:40"]
    assert main([*asked, *speeds, "--model", "text-embedding-3-small", "--p95-wait", "2"]) == 0
    out = capsys.readouterr().out
    assert "### Replicas of `all-minilm` in `prod` for 9 requests/s" in out
    assert "\n| c7i.xlarge, 2 |" in out
    assert "In `config/stages.py`, for all-minilm: `min_replicas`" in out
    assert "Cost is the stage's with all-minilm alone" in out


@pytest.mark.parametrize(("needed", "zones", "with_one_to_lose"), [(9, 3, 14), (2, 2, 4), (1, 3, 2), (6, 3, 9)])
def test_a_zone_can_go_and_enough_replicas_stay(needed: int, zones: int, with_one_to_lose: int) -> None:
    assert report.without_a_zone(needed, zones) == with_one_to_lose
    assert with_one_to_lose - math.ceil(with_one_to_lose / zones) >= needed


def test_an_objective_that_a_request_alone_breaks_is_refused_before_any_search() -> None:
    workload = Workload(rate=1, prompt=NO_PROMPT, answer=Length(170, 0))
    system = replace(PATIENT, slots=8, speeds=REAL, generation_timeout=120)
    with pytest.raises(InputError, match=r"--p95-latency 5 can't be kept: alone on a pod p95 is 9\.94 s"):
        search.check_possible(workload, system, Slo(p95_latency=5, unanswered=0.01))
    with pytest.raises(InputError, match=r"alone on a pod 100\.00% run into generation_timeout=5"):
        search.check_possible(workload, replace(system, generation_timeout=5), Slo(unanswered=0.01))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--rate", "0"], "--rate: '0' is not a number of requests a second from 0.0001 to 1000000"),
        (["--rate", "inf"], "--rate: 'inf' is not a number of requests a second from 0.0001 to 1000000"),
        (["--rate", "1e308"], "--rate: '1e308' is not a number of requests a second from 0.0001 to 1000000"),
        (
            ["--rate", "1e6"],
            "--rate 1,000,000 keeps 1,956,672 replicas busy, and 20,000 are the most that are simulated: plan for a "
            "part of it",
        ),
        (["--answer", "many"], "--answer: 'many' is not a number of tokens from 1 to 1000000"),
        (["--answer", "150:-1"], "--answer: '-1' is not a number of tokens from 0 to 1000000"),
        (["--answer", "150:1e300"], "--answer: '1e300' is not a number of tokens from 0 to 1000000"),
        (["--refused", "few"], "--refused: 'few' is not a number of per cent from 0 to 100"),
        (["--refused", "150"], "--refused: '150' is not a number of per cent from 0 to 100"),
        (["--p95-wait", "-2"], "--p95-wait: '-2' is not a number of seconds from 0 to 86400"),
        (["--seed", "x"], "--seed: 'x' is not a whole number, 0 or more"),
        (["--stage", "staging"], "--stage: stage 'staging' doesn't exist: local, dev, prod do"),
        (
            ["--stage", "local"],
            "stage 'local' has no instance type: give --instance, c7i.xlarge or c7i.2xlarge or c7g.xlarge or "
            "c7g.2xlarge",
        ),
        (["--instance", "m9z"], "--instance: 'm9z' is none of c7i.xlarge, c7i.2xlarge, c7g.xlarge, c7g.2xlarge"),
        (["--model", "llava"], "stage prod has no model 'llava': it serves moondream"),
        (["--slots", "0"], "--slots: '0' is not a whole number from 1 to 256"),
        (
            ["--slots", "16"],
            "--decode of c7i.2xlarge: decode has tokens/s at [1, 8] busy slots: it needs them at 1 and at 16",
        ),
        (["--decode", "8:10"], "--decode: '8:10' doesn't say how fast one answer alone is: give it as 1:17,8:10.5"),
        (["--decode", "17"], "--decode: '17' is not a list of COUNT:SPEED such as 1:17,8:10.5"),
        (
            ["--decode", "1:10,8:17"],
            "--decode: '1:10,8:17' has answers get faster with more at once: they share a pod's CPUs",
        ),
        (
            ["--instance=c7i.xlarge", "--instance=c7i.2xlarge", "--slots=c7i.xlarge=4", "--slots=c7i.2xlarge=8"],
            "--prefill says nothing of c7i.xlarge: give --prefill c7i.xlarge=…",
        ),
        (["--region", "eu-north-9"], "region 'eu-north-9' has no prices in prices.toml: eu-central-1, us-east-1 have"),
        (["--report", "x.json"], "--answer and --report exclude each other: the report has that"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main([*ASKED, *SPEEDS, *arguments])
    except SystemExit as stopped:  # argparse's own
        code = int(stopped.code or 0)
    assert (code, capsys.readouterr().err) == (2, f"sluice: {sentence}\n")


def test_what_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASKED, "--prefill", "350"]) == 2
    assert capsys.readouterr().err == "sluice: --decode is missing: give it, or the --report of a load run\n"


@pytest.mark.usefixtures("programs")  # a process for each CPU
def test_a_search_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "REQUESTS", 200)
    workload = Workload(rate=4, prompt=NO_PROMPT, answer=Length(150, 0))
    said: list[str] = []
    with search.workers() as pool:
        guess = search.first_guess(workload, PROD, REAL)
        search.search(pool, workload, guess, Slo(p95_wait=2, unanswered=0.01), 1, said.append)
    steps = [line.partition(":")[0] for line in said]
    assert steps == sorted(steps)
    assert said[-2:] == ["step 2 of 3: 6 of 6 runs", f"step 3 of 3: a forecast with {guess.replicas} replicas"]


@pytest.mark.usefixtures("programs")  # a process for each CPU
def test_the_figures_in_the_documentation_are_those_of_its_command() -> None:
    """Of the search only the end is repeated: the forecast with the number of replicas that it has found."""
    page = (ROOT / "docs/planning.md").read_text()
    [command] = re.findall(r'make plan OPTIONS="(.*)"', page)
    [found] = re.findall(r"\*\*([\d,]+)\*\* \(([\d,]+) to ([\d,]+)\)", page)
    replicas, fewest, most = (int(text.replace(",", "")) for text in found)
    parser = Parser()
    options.add_options(parser)
    asked = options.read_options(parser.parse_args([*command.split(), "--region", "eu-central-1"]))
    [candidate] = asked.candidates
    system = replace(search.first_guess(asked.workload, candidate.stage, candidate.speeds), replicas=replicas)
    with search.workers() as pool:
        forecast = search.forecast(pool, asked.workload, system, asked.seed)
    printed = report.summary(asked, [report.size(asked, candidate, search.Answer(forecast, fewest, most))])
    assert "\n".join(line for line in printed.splitlines() if line.startswith("|")) in page


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("", "can't be read"),
        ("[]", "is no report of `make load`"),
        ('{"samples": [], "requests": []}', "has no samples of the cluster: give `make load` --namespace"),
        ('{"samples": [{"ready": 2}], "requests": [[0, 1, "answered", 1]]}', "has 1 requests that found a free slot"),
    ],
)
def test_a_report_that_does_not_do_says_why(written: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(written)
    with pytest.raises(InputError, match=sentence):
        read_report(path, slots=1, speeds=STEADY)
