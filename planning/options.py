"""What to plan, as the command line says it."""

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from command_line import InputError, add_region, number, one_of, read_stage, region, whole
from config import C7G_2XLARGE, C7G_XLARGE, C7I_2XLARGE, C7I_XLARGE, GATEWAY_CPUS, ConfigError, Node, Stage
from cost.prices import Prices
from planning.load_report import read_report
from planning.readers import DECODE_EXAMPLE, RATE, SECONDS, SPEED, by_instance, decode, length
from planning.search import Slo
from planning.speeds import Speeds
from planning.workload import NO_PROMPT, Measured, Workload

NODES = {node.instance_type: node for node in (C7I_XLARGE, C7I_2XLARGE, C7G_XLARGE, C7G_2XLARGE)}
OVERHEAD = 0.003  # seconds; what the gateway adds, docs/benchmarks.md
EPILOG = (
    "SPEEDS and SLOTS are those of one instance type; with several, say of which: c7i.xlarge=1:9,4:6. `make bench` or "
    "`make models` measure them. Arrivals are Poisson: give the rate of the busiest minutes, not of the day."
)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A stage on an instance type, and how fast a pod is there."""

    stage: Stage
    node: Node
    speeds: Speeds


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """What to plan. The candidates' stages are as the model sees them that is asked."""

    workload: Workload
    slo: Slo
    candidates: list[Candidate]
    prices: Prices
    seed: int
    model: str = ""  # which is asked, if the stage has several


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options, with their units."""
    add, speed, slots = parser.add_argument, by_instance(SPEED), by_instance(whole(1, 256))
    add("--stage", type=read_stage, default="prod", help="whose deadlines, slots, zones, node count (default: prod)")
    add("--model", default="", metavar="NAME", help="which of the stage's models is asked (default: the first)")
    add("--rate", type=RATE, required=True, metavar="R", help="requests a second")
    add("--prompt", type=length, metavar="MEAN[:SPREAD]", help="tokens, mean and standard deviation (default: none)")
    add("--answer", type=length, metavar="MEAN[:SPREAD]", help="tokens; the stage's max_tokens cut it off")
    add("--prefill", type=speed, action="append", metavar="SPEED", help="tokens/s at which a pod reads prompts")
    add(
        "--decode",
        type=by_instance(decode),
        action="append",
        metavar="SPEEDS",
        help=f"tokens/s of each of N answers at once: {DECODE_EXAMPLE}",
    )
    add("--report", type=Path, metavar="FILE", help="report.json of a load run, in place of lengths and prefill")
    for name, what in {"--p95-wait": "in the queue", "--p95-latency": "to the whole answer"}.items():
        help_ = f"objective: seconds {what}, of 95 %% of those answered"
        add(name, type=SECONDS, default=math.inf, metavar="S", help=help_)
    add(
        "--refused",
        type=number(0, 100, of="per cent"),
        default=0.1,
        metavar="PERCENT",
        help="objective: refused or late, at most (default: 0.1)",
    )
    add(
        "--instance",
        type=one_of(list(NODES)),
        action="append",
        metavar="TYPE",
        help=f"{', '.join(NODES)}; again to compare (default: the stage's)",
    )
    add("--slots", type=slots, action="append", metavar="SLOTS", help="slots of a pod (default: the stage's)")
    add_region(parser)
    add("--seed", type=whole(), default=1, metavar="N", help="of arrivals and lengths; the same seed, the same plan")
    parser.epilog = EPILOG


def read_options(asked: argparse.Namespace) -> PlanRequest:
    """Return what is asked. Raises InputError or ConfigError."""
    slo = Slo(p95_wait=asked.p95_wait, p95_latency=asked.p95_latency, unanswered=asked.refused / 100)
    view = asked.stage.of(asked.model) if asked.model else asked.stage.each_model[0]
    placed = _placed(asked, view)
    workload, candidates = _from_report(asked, placed) if asked.report else _from_tokens(asked, placed)
    prices = Prices(region(asked.region))
    model = view.model.name if asked.stage.more_models else ""
    return PlanRequest(workload=workload, slo=slo, candidates=candidates, prices=prices, seed=asked.seed, model=model)


def _from_tokens(asked: argparse.Namespace, placed: list[Stage]) -> tuple[Workload, list[Candidate]]:
    for name in ("answer", "prefill", "decode"):
        if not getattr(asked, name):
            raise InputError(f"--{name} is missing: give it, or the --report of a load run")
    longest_prompt, longest_answer = placed[0].context_length - 1, placed[0].max_tokens
    workload = Workload(
        rate=asked.rate,
        prompt=replace(asked.prompt, longest=longest_prompt) if asked.prompt else NO_PROMPT,
        answer=replace(asked.answer, longest=longest_answer),
    )
    return workload, [_candidate(stage, _token_speeds(asked, stage)) for stage in placed]


def _token_speeds(asked: argparse.Namespace, stage: Stage) -> Speeds:
    kind = stage.node.instance_type if stage.node else ""
    prefill = _of("prefill", asked.prefill, asked, kind)
    return Speeds(prefill=prefill, decode=_of("decode", asked.decode, asked, kind), overhead=OVERHEAD)


def _from_report(asked: argparse.Namespace, placed: list[Stage]) -> tuple[Workload, list[Candidate]]:
    for name in ("answer", "prompt", "prefill"):
        if getattr(asked, name):
            raise InputError(f"--{name} and --report exclude each other: the report has that")
    if len(placed) > 1:
        raise InputError("--report is of one instance type: give --instance once")
    [stage] = placed
    kind = stage.node.instance_type if stage.node else ""
    speeds = _of("decode", asked.decode, asked, kind) if asked.decode else {1: 1.0}
    shares = {count: speed / speeds[1] for count, speed in speeds.items()}
    one = _candidate(stage, Speeds(prefill=math.inf, decode=shares, given=0, joining=0))
    seconds = Measured(read_report(asked.report, slots=stage.slots, speeds=one.speeds))
    return Workload(rate=asked.rate, prompt=NO_PROMPT, answer=seconds), [one]


def _candidate(stage: Stage, speeds: Speeds) -> Candidate:
    assert stage.node is not None  # noqa: S101 - _placed has set it
    try:
        speeds.decode_with(stage.slots)
    except ConfigError as error:
        raise ConfigError(f"--decode of {stage.node.instance_type}: {error}") from None
    return Candidate(stage=stage, node=stage.node, speeds=speeds)


def _placed(asked: argparse.Namespace, stage: Stage) -> list[Stage]:
    """Return the stage on each instance type, on the others with a pod as large as one node holds."""
    if not asked.instance and stage.node is None:
        raise InputError(f"stage {stage.name!r} has no instance type: give --instance, {' or '.join(NODES)}")
    placed = []
    for name in dict.fromkeys(asked.instance or [stage.node.instance_type if stage.node else ""]):
        node = NODES[name]
        cpus = stage.cpus if node == stage.node else int(node.free_cpus - GATEWAY_CPUS)
        slots = _of("slots", asked.slots, asked, name) if asked.slots else stage.slots
        requests = min(slots, stage.requests_per_replica)
        on_node = replace(stage, node=node, cpus=cpus, requested_cpus=None, slots=slots, requests_per_replica=requests)
        placed.append(on_node)
    return placed


def _of(name: str, values: list[tuple[str, T]], asked: argparse.Namespace, kind: str) -> T:
    """Return an option's value for an instance type: with its name before it, or without where it is alone."""
    given = dict(values)
    if kind not in given and len(set(asked.instance or [])) < 2:
        kind = ""
    if kind not in given:
        raise InputError(f"--{name} says nothing of {kind or 'the instance type'}: give --{name} {kind}=…")
    return given[kind]
