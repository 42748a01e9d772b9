"""What is asked on the command line, checked: a bad value ends with one sentence that names its option."""

import argparse
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

from config import C7I_2XLARGE, C7I_XLARGE, GATEWAY_CPUS, NODE_OVERHEAD_CPUS, ConfigError, Node, Stage, find_stage
from context import CDK_JSON
from cost.prices import Prices
from planning.load_report import read_report
from planning.search import Slo
from planning.speeds import Speeds
from planning.workload import NO_PROMPT, Length, Measured, Workload

NODES = {node.instance_type: node for node in (C7I_XLARGE, C7I_2XLARGE)}
OVERHEAD = 0.003  # seconds; what the gateway adds, docs/benchmarks.md
EPILOG = (
    "SPEEDS and SLOTS are those of one instance type; with several, say of which: c7i.xlarge=1:9,4:6. `make bench` or "
    "`make models` measure them. Arrivals are Poisson: give the rate of the busiest minutes, not of the day."
)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A stage on an instance type, and how fast a pod is there."""

    stage: Stage
    node: Node
    speeds: Speeds


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What to plan."""

    workload: Workload
    slo: Slo
    candidates: list[Candidate]
    prices: Prices
    seed: int


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options, with their units."""
    add, known = parser.add_argument, ", ".join(NODES)
    add("--stage", default="prod", help="whose deadlines, slots, zones and node count (default: prod)")
    add("--rate", required=True, metavar="R", help="requests a second")
    add("--prompt", metavar="MEAN[:SPREAD]", help="tokens of a prompt, mean and standard deviation (default: none)")
    add("--answer", metavar="MEAN[:SPREAD]", help="tokens of an answer; the stage's max_tokens cut it off")
    add("--prefill", action="append", metavar="SPEED", help="tokens/s at which a pod reads prompts")
    add("--decode", action="append", metavar="SPEEDS", help="tokens/s of each of N answers at once: 1:17,8:10.5")
    add("--report", metavar="FILE", help="report.json of a load run, in place of lengths and prefill")
    add("--p95-wait", metavar="S", help="objective: seconds in the queue, of 95 %% of those answered")
    add("--p95-latency", metavar="S", help="objective: seconds to the whole answer, of 95 %% of those answered")
    add("--refused", default="0.1", metavar="PERCENT", help="objective: refused or late, at most (default: 0.1)")
    add("--instance", action="append", metavar="TYPE", help=f"{known}; again to compare (default: the stage's)")
    add("--slots", action="append", metavar="SLOTS", help="slots of a pod (default: the stage's)")
    add("--region", help="whose prices (default: the region in cdk.json)")
    add("--seed", default="1", metavar="N", help="of arrivals and lengths; the same seed gives the same plan")
    parser.epilog = EPILOG


def read_options(asked: argparse.Namespace) -> Asked:
    """Return what is asked; raises ConfigError."""
    slo = Slo(
        p95_wait=_limit("--p95-wait", asked.p95_wait, "seconds"),
        p95_latency=_limit("--p95-latency", asked.p95_latency, "seconds"),
        unanswered=_limit("--refused", asked.refused, "per cent") / 100,
    )
    placed = _placed(asked, find_stage(asked.stage))
    workload, candidates = _from_report(asked, placed) if asked.report else _from_tokens(asked, placed)
    prices, seed = Prices(asked.region or _region()), whole("--seed", asked.seed)
    return Asked(workload=workload, slo=slo, candidates=candidates, prices=prices, seed=seed)


def _from_tokens(asked: argparse.Namespace, placed: list[Stage]) -> tuple[Workload, list[Candidate]]:
    for name in ("answer", "prefill", "decode"):
        if not getattr(asked, name):
            raise ConfigError(f"--{name} is missing: give it, or the --report of a load run")
    longest_prompt, longest_answer = placed[0].context_length - 1, placed[0].max_tokens
    workload = Workload(
        rate=_above_0("--rate", asked.rate, "requests a second"),
        prompt=_length("--prompt", asked.prompt, longest_prompt) if asked.prompt else NO_PROMPT,
        answer=_length("--answer", asked.answer, longest_answer),
    )
    return workload, [_candidate(stage, _token_speeds(asked, stage)) for stage in placed]


def _token_speeds(asked: argparse.Namespace, stage: Stage) -> Speeds:
    prefill = _above_0("--prefill", _of(asked, "prefill", stage), "tokens/s")
    return Speeds(prefill=prefill, decode=_decode(_of(asked, "decode", stage)), overhead=OVERHEAD)


def _from_report(asked: argparse.Namespace, placed: list[Stage]) -> tuple[Workload, list[Candidate]]:
    for name in ("answer", "prompt", "prefill"):
        if getattr(asked, name):
            raise ConfigError(f"--{name} and --report exclude each other: the report has that")
    if len(placed) > 1:
        raise ConfigError("--report is of one instance type: give --instance once")
    [stage] = placed
    decode = _decode(_of(asked, "decode", stage)) if asked.decode else {1: 1.0}
    shares = {count: speed / decode[1] for count, speed in decode.items()}
    one = _candidate(stage, Speeds(prefill=math.inf, decode=shares, given=0, joining=0))
    seconds = Measured(read_report(Path(asked.report), slots=stage.slots, speeds=one.speeds))
    rate = _above_0("--rate", asked.rate, "requests a second")
    return Workload(rate=rate, prompt=NO_PROMPT, answer=seconds), [one]


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
        raise ConfigError(f"stage {stage.name!r} has no instance type: give --instance, {' or '.join(NODES)}")
    placed = []
    for name in dict.fromkeys(asked.instance or [stage.node.instance_type if stage.node else ""]):
        if name not in NODES:
            raise ConfigError(f"--instance={name} is unknown: config.py has {', '.join(NODES)}")
        node = NODES[name]
        cpus = stage.cpus if node == stage.node else int(node.cpus - NODE_OVERHEAD_CPUS - GATEWAY_CPUS)
        on_node = replace(stage, node=node, cpus=cpus, requested_cpus=None)
        slots = whole("--slots", _of(asked, "slots", on_node), low=1) if asked.slots else stage.slots
        placed.append(replace(on_node, slots=slots, requests_per_replica=min(slots, stage.requests_per_replica)))
    return placed


def _of(asked: argparse.Namespace, name: str, stage: Stage) -> str:
    """Return an option's value for the stage's instance type: with its name before it, or without where it is alone."""
    kind = stage.node.instance_type if stage.node else ""
    values: list[str] = getattr(asked, name)
    given = {text.rpartition("=")[0]: text.rpartition("=")[2] for text in values}
    if kind not in given and len(set(asked.instance or [])) < 2:
        kind = ""
    if kind not in given:
        raise ConfigError(f"--{name} says nothing of {kind or 'the instance type'}: give --{name} {kind}=…")
    return given[kind]


def _decode(text: str) -> dict[int, float]:
    pairs = [part.partition(":") for part in text.split(",")]
    speeds = {whole("--decode", count, low=1): _above_0("--decode", speed, "tokens/s") for count, _, speed in pairs}
    if 1 not in speeds:
        raise ConfigError(f"--decode={text} doesn't say how fast one answer alone is: give it as 1:17,8:10.5")
    return speeds


def _length(name: str, text: str, longest: int) -> Length:
    mean, _, spread = text.partition(":")
    return Length(_above_0(name, mean, "tokens"), _limit(name, spread or "0", "tokens"), longest)


def _above_0(name: str, text: str, unit: str) -> float:
    number = _number(text)
    if not 0 < number < math.inf:
        raise ConfigError(f"{name}={text} is not a number of {unit} above 0")
    return number


def _limit(name: str, text: str | None, unit: str) -> float:
    """Return a number from 0 on, infinity where none is given."""
    number = math.inf if text is None else _number(text)
    if not number >= 0:
        raise ConfigError(f"{name}={text} is not a number of {unit}, 0 or more")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def whole(name: str, text: str, low: int = 0) -> int:
    """Return an option's whole number; raises ConfigError below `low`."""
    if not text.isdecimal() or int(text) < low:
        raise ConfigError(f"{name}={text} is not a whole number, {low} or more")
    return int(text)


def _region() -> str:
    region: str = json.loads(CDK_JSON.read_text())["context"].get("region", "")
    if not region:
        raise ConfigError("region is missing: set it in cdk.json or with --region")
    return region
