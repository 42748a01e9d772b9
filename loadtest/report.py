"""The report of a run as data: what goes into report.json, and how one is read again."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from command_line import InputError
from loadtest.cluster import Sample
from loadtest.k6 import QuestionResult, Run
from loadtest.plan import Plan
from loadtest.probe import Stream
from loadtest.reporting.folder import FORMAT, Report, new_report
from loadtest.reporting.statistics import rounded, summarise
from loadtest.reporting.target import Target, new_target

OUTCOMES = ("answered", "refused", "timeout", "error", "bad_answer")
# What is read of a report, and the form that it has there.
NUMBER = (int, float)
KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("name", "scenario", "model", "started"), str),
    **{"seconds": NUMBER, "slo_s": NUMBER, "settings": dict, "valid": bool, "invalid_because": list},
    **{"counts": dict, "answered_share": NUMBER, "throughput": NUMBER, "goodput": NUMBER, "requests": list},
    **{"probe": (dict, type(None)), "latency_s": (dict, type(None)), "samples": list},
}


def build(
    plan: Plan,
    k6: Run,
    *,
    metrics: dict[str, Any],
    streams: list[Stream],
    samples: list[Sample],
    interrupted_after: float | None = None,
) -> Report:
    """Return the report of a run that has ended. metrics: k6's own summary. interrupted_after: so many seconds."""
    began = k6.began.result()
    asked = sorted(k6.asked, key=lambda each: each.started)
    dropped, cut_off = k6.dropped, k6.begun - len(asked)
    counts = _counts(asked, dropped)
    answered = [each for each in asked if each.outcome == "answered"]
    seconds = plan.seconds if interrupted_after is None else min(interrupted_after, plan.seconds)
    # What a run achieves in its time; what ends later would stretch the time by its slowest question.
    timely = [each.took for each in answered if each.started + each.took - began <= seconds]
    heard = [stream for stream in streams if stream.outcome == "answered"]
    reasons = _invalid(len(asked), cut_off, dropped)
    if interrupted_after is not None:
        reasons.insert(0, f"interrupted after {seconds:.0f} s of {plan.seconds:g} s")
    return new_report(plan.name, []) | {
        "command": plan.command,
        "started": datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds"),
        "scenario": plan.scenario,
        "target": plan.target.url,
        "model": plan.model,
        "digest": plan.digest or None,
        "stage": plan.stage or None,
        "node": plan.node or None,
        "seconds": round(seconds, 3),
        "note": plan.note or None,
        "settings": settings(plan),
        "interrupted": interrupted_after is not None,
        "valid": not reasons,
        "invalid_because": reasons,
        "counts": counts,
        "answered_share": round(counts["answered"] / len(asked), 6) if asked else 0.0,
        "throughput": round(len(timely) / seconds, 4),
        "goodput": round(sum(took <= plan.limit for took in timely) / seconds, 4),
        "slo_s": rounded(plan.limit),
        "latency_s": summarise([each.took for each in answered]),
        "ttft_s": summarise([stream.ttft for stream in heard if stream.ttft is not None]),
        "itl_s": summarise([gap for stream in heard for gap in stream.gaps]),
        "targets": list(_thresholds(metrics)),
        "requests": [
            [round(each.started - began, 3), round(each.took, 3), each.outcome, each.attempts] for each in asked
        ],
        "probe": _probe(plan, streams, began),
        "samples": [{**asdict(sample), "at": round(sample.at - began, 1)} for sample in samples],
    }


def settings(plan: Plan) -> dict[str, Any]:
    """Return what two runs must have in common to be compared."""
    load = {"rate": plan.base_rate} if plan.shape.has_rate else {"users": plan.most_users}
    client = {"api": plan.api, "time_scale": plan.time_scale, "retries": plan.retries}
    limits = {"max_tokens": plan.max_tokens or 0, "timeout_s": plan.patience}
    return {**load, **client, **limits, "probe": plan.streams}


def read(path: Path) -> Report:
    """Return a report from its folder or file. Raises InputError."""
    path = path / "report.json" if path.is_dir() else path
    try:
        report = json.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise InputError(f"{path} can't be read as a report: {problem}") from None
    if not isinstance(report, dict) or report.get("format") != FORMAT or "latency_s" not in report:
        raise InputError(f"{path} is no report of `python -m loadtest run` in format {FORMAT}")
    if wrong := [name for name, kind in KINDS.items() if not isinstance(report.get(name), kind)]:
        raise InputError(f"{path} isn't whole: it lacks {', '.join(wrong)}, or has them in another form")
    return report


def _counts(asked: list[QuestionResult], dropped: int) -> dict[str, int]:
    outcomes = Counter(each.outcome for each in asked)
    again = sum(each.outcome == "answered" and each.attempts > 1 for each in asked)
    return {
        "requests": len(asked),
        **{name: outcomes[name] for name in OUTCOMES},
        "answered_after_retry": again,
        "dropped": dropped,
        "attempts": sum(each.attempts for each in asked),
        "refusals": sum(each.refusals for each in asked),
    }


def _invalid(count: int, cut_off: int, dropped: int) -> list[str]:
    reasons = {
        f"{dropped} questions were due when every user was busy, and never asked: raise --users": dropped,
        f"{cut_off} questions were cut off at the end": cut_off,
        "nothing was asked": not count,
    }
    return [reason for reason, holds in reasons.items() if holds]


def _thresholds(metrics: dict[str, Any]) -> Iterator[Target]:
    """Yield k6's thresholds; those in milliseconds become seconds."""
    for name, metric in sorted(metrics.items()):
        unit, scale = (", s", 1000) if metric["contains"] == "time" else ("", 1)
        for text, found in metric.get("thresholds", {}).items():
            statistic, sign, limit = re.fullmatch(r"(.+?)([<>=]+)(.+)", text).groups()  # type: ignore[union-attr]
            value = round(metric["values"].get(statistic, 0) / scale, 4)
            yield new_target(f"{statistic} of {name}{unit}", value, f"{sign}{float(limit) / scale:g}", found["ok"])


def _probe(plan: Plan, streams: list[Stream], began: float) -> Report | None:
    if not plan.streams:
        return None
    return {
        "note": "one stream at a time during the scenario, through the same target, in none of the other counts",
        "counts": dict(Counter(stream.outcome for stream in streams)),
        "streams": [
            [round(stream.started - began, 3), _or_none(stream.ttft), _mean(stream.gaps), stream.outcome]
            for stream in streams
        ],
    }


def _or_none(seconds: float | None) -> float | None:
    return None if seconds is None else rounded(seconds)


def _mean(values: list[float]) -> float | None:
    return rounded(sum(values) / len(values)) if values else None
