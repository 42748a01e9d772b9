"""A plan as a table in Markdown."""

import math
from dataclasses import dataclass, replace

from cost.estimate import estimate
from loadtest.document import markdown_table
from planning.options import Asked, Candidate
from planning.search import RUNS, Answer, Interval
from planning.workload import Length


@dataclass(frozen=True)
class Row:
    """What one instance type needs: for the objective, and for the same with a zone gone."""

    candidate: Candidate
    answer: Answer
    without_zone: int
    usd: float
    usd_without_zone: float


def row(asked: Asked, candidate: Candidate, answer: Answer) -> Row:
    """Return a candidate's row."""
    replicas, zones = answer.forecast.replicas, candidate.stage.zones
    with_zone = without_a_zone(replicas, zones)
    return Row(candidate, answer, with_zone, usd(asked, candidate, replicas), usd(asked, candidate, with_zone))


def without_a_zone(replicas: int, zones: int) -> int:
    """Return how many replicas, spread evenly, leave `replicas` when a zone is gone."""
    most = replicas
    while most - math.ceil(most / zones) < replicas:
        most += 1
    return most


def usd(asked: Asked, candidate: Candidate, replicas: int) -> float:
    """Return what the whole stage costs a month with so many replicas all the time."""
    stage = replace(candidate.stage, min_replicas=replicas, max_replicas=replicas)
    return sum(line.maximum for line in estimate(stage, asked.prices))


def markdown(asked: Asked, rows: list[Row]) -> str:
    """Return the plan: what was asked, a line an instance type, what to take, and what it rests on."""
    return "\n".join([*_question(asked), "", _table(rows), "", _advice(rows), "", *_notes(asked, rows)])


def _question(asked: Asked) -> list[str]:
    stage, slo, workload = asked.candidates[0].stage, asked.slo, asked.workload
    limits = [f"at most {slo.unanswered:.3g} of all refused or out of time"]
    if slo.p95_wait < math.inf:
        limits.append(f"p95 wait ≤ {slo.p95_wait:g} s")
    if slo.p95_latency < math.inf:
        limits.append(f"p95 latency ≤ {slo.p95_latency:g} s")
    lengths = [_length(name, length) for name, length in (("prompts", workload.prompt), ("answers", workload.answer))]
    work = ", ".join(filter(None, lengths)) or "service times of the load report"
    return [
        f"### Replicas of `{stage.name}` for {workload.rate:g} requests/s",
        "",
        f"{work[0].upper()}{work[1:]}; {'; '.join(limits)}.",
    ]


def _length(name: str, length: object) -> str:
    if not isinstance(length, Length):
        return ""
    cut = f", {length.cut():.1%} cut off at {length.longest}" if length.cut() >= 0.001 else ""
    return f"{name} of {length.mean:g} ± {length.spread:g} tokens{cut}"


def _table(rows: list[Row]) -> str:
    head = (
        "instance, slots a pod",
        "replicas",
        "p95 wait, s",
        "p95 latency, s",
        "refused or late",
        "utilisation",
        "$ a month",
    )
    lines = []
    for row in rows:
        found, answer = row.answer.forecast, row.answer
        lines.append(
            [
                f"{row.candidate.node.instance_type}, {row.candidate.stage.slots}",
                f"**{found.replicas:,}** ({answer.fewest:,} to {answer.most:,})",
                _seconds(found.p95_wait),
                _seconds(found.p95_latency),
                f"{found.unanswered.value:.2%}",
                f"{found.utilisation.value:.0%}",
                f"{row.usd:,.0f}",
            ]
        )
    return markdown_table([head, *lines], numbers=True)


def _seconds(interval: Interval) -> str:
    return f"{interval.value:.3g} ({interval.low:.3g} to {interval.high:.3g})"


def _advice(rows: list[Row]) -> str:
    best = min(rows, key=lambda row: row.usd_without_zone)
    zones, one_more = best.candidate.stage.zones, best.answer.forecast.replicas + 1
    return (
        f"Take {best.without_zone:,} × {best.candidate.node.instance_type} for ${best.usd_without_zone:,.0f} a month: "
        f"the objective then holds with one of {zones} zones gone. {one_more:,} hold it with one replica gone. "
        f"In `config.py`: `min_replicas` for the quiet hours, `max_replicas={best.without_zone}`."
    )


def _notes(asked: Asked, rows: list[Row]) -> list[str]:
    notes = [
        f"In brackets: 95 % intervals over {RUNS} simulated runs, and the fewest and the most replicas that one of "
        "them needed. Cost is the whole stage's, as `make cost` counts it, with all replicas all the time.",
    ]
    stage = rows[0].candidate.stage
    places = stage.max_in_flight * stage.proxy_replicas
    most = max(row.answer.forecast.most_at_once for row in rows)
    if most > places:
        notes += [
            "",
            f"**{most:,} requests at once are more than the fronts take, {places:,}**: raise max_in_flight with it.",
        ]
    return notes
