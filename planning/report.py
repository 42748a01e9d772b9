"""A plan as a table in Markdown."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cost.estimate import estimate
from loadtest.reporting.document import Table, markdown
from loadtest.reporting.statistics import interval_text
from planning.options import Candidate, PlanRequest
from planning.search import RUNS, Answer
from planning.workload import Length


@dataclass(frozen=True)
class Sizing:
    """What one instance type needs: for the objective, and for the same with a zone gone."""

    candidate: Candidate
    answer: Answer
    without_zone: int
    usd: float
    usd_without_zone: float


def size(asked: PlanRequest, candidate: Candidate, answer: Answer) -> Sizing:
    """Return what a candidate needs, with its price."""
    replicas, zones = answer.forecast.replicas, candidate.stage.zones
    with_zone = without_a_zone(replicas, zones)
    return Sizing(candidate, answer, with_zone, usd(asked, candidate, replicas), usd(asked, candidate, with_zone))


def without_a_zone(replicas: int, zones: int) -> int:
    """Return how many replicas, spread evenly, leave `replicas` when a zone is gone."""
    most = replicas
    while most - math.ceil(most / zones) < replicas:
        most += 1
    return most


def usd(asked: PlanRequest, candidate: Candidate, replicas: int) -> float:
    """Return what the whole stage costs a month with so many replicas all the time."""
    stage = replace(candidate.stage, min_replicas=replicas, max_replicas=replicas)
    return sum(line.maximum for line in estimate(stage, asked.prices))


def summary(asked: PlanRequest, sizings: list[Sizing]) -> str:
    """Return the plan in Markdown: what was asked, a line an instance type, what to take, and what it rests on."""
    return markdown([*_question(asked), _table(sizings), _advice(asked, sizings), *_notes(asked, sizings)])


def _question(asked: PlanRequest) -> Iterator[str]:
    stage, slo, workload = asked.candidates[0].stage, asked.slo, asked.workload
    limits = [f"at most {slo.unanswered:.3g} of all refused or out of time"]
    if slo.p95_wait < math.inf:
        limits.append(f"p95 wait ≤ {slo.p95_wait:g} s")
    if slo.p95_latency < math.inf:
        limits.append(f"p95 latency ≤ {slo.p95_latency:g} s")
    lengths = [_length(name, length) for name, length in (("prompts", workload.prompt), ("answers", workload.answer))]
    work = ", ".join(filter(None, lengths)) or "service times of the load report"
    whose = f"`{asked.model}` in `{stage.name}`" if asked.model else f"`{stage.name}`"
    yield f"### Replicas of {whose} for {workload.rate:g} requests/s"
    yield f"{work[0].upper()}{work[1:]}; {'; '.join(limits)}."


def _length(name: str, length: object) -> str:
    if not isinstance(length, Length):
        return ""
    cut = f", {length.cut():.1%} cut off at {length.longest}" if length.cut() >= 0.001 else ""
    return f"{name} of {length.mean:g} ± {length.spread:g} tokens{cut}"


def _table(sizings: list[Sizing]) -> Table:
    figures = {
        "instance, slots a pod": lambda each: f"{each.candidate.node.instance_type}, {each.candidate.stage.slots}",
        "replicas": lambda each: "**{:,}** ({:,} to {:,})".format(each.answer.forecast.replicas, *each.answer[1:]),
        "p95 wait, s": lambda each: interval_text(each.answer.forecast.p95_wait, ".3g"),
        "p95 latency, s": lambda each: interval_text(each.answer.forecast.p95_latency, ".3g"),
        "refused or late": lambda each: f"{each.answer.forecast.unanswered.value:.2%}",
        "utilisation": lambda each: f"{each.answer.forecast.utilisation.value:.0%}",
        "$ a month": lambda each: f"{each.usd:,.0f}",
    }
    return Table.rows_of(sizings, figures, numbers=True)


def _advice(asked: PlanRequest, sizings: list[Sizing]) -> str:
    best = min(sizings, key=lambda each: each.usd_without_zone)
    zones, one_more = best.candidate.stage.zones, best.answer.forecast.replicas + 1
    where = f"`config/stages.py`, for {asked.model}" if asked.model else "`config/stages.py`"
    return (
        f"Take {best.without_zone:,} × {best.candidate.node.instance_type} for ${best.usd_without_zone:,.0f} a month: "
        f"the objective is then still met with one of {zones} zones gone, and with one replica gone by {one_more:,}. "
        f"In {where}: `min_replicas` for the quiet hours, `max_replicas={best.without_zone}`."
    )


def _notes(asked: PlanRequest, sizings: list[Sizing]) -> Iterator[str]:
    whose = f"the stage's with {asked.model} alone" if asked.model else "the whole stage's"
    yield (
        f"In brackets: 95 % intervals over {RUNS} simulated runs, and the fewest and the most replicas that one of "
        f"them needed. Cost is {whose}, as `make cost` counts it, with all replicas all the time."
    )
    stage = sizings[0].candidate.stage
    places = stage.max_in_flight * stage.proxy_replicas
    most = max(each.answer.forecast.most_at_once for each in sizings)
    if most > places:
        take = f"the fronts take{asked.model and f' for {asked.model}'}, {places:,}"
        yield f"**{most:,} requests at once are more than {take}**: raise max_in_flight with it."
