"""The report of the step: the autoscalers side by side."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from loadtest.autoscaling.arms import ARMS, BUSY_POD, PERIODS, SCALE, SHORT, STEP_MINUTES, STEP_RATE, Outcome
from loadtest.autoscaling.figures import (
    Step,
    busy_seconds,
    integral,
    new_pods,
    recovery_time,
    slo_violation_seconds,
    time_to_detect,
)
from loadtest.autoscaling.report import add_traces, over_time
from loadtest.reporting.document import Block, Table, cell
from loadtest.reporting.folder import Report, publish
from loadtest.reporting.target import Target, at_most, new_target
from loadtest.scenarios import SCENARIOS

FASTER = 2  # times, of `requests` compared with `cpu`: until the SLO holds again
Figures = dict[str, Any]
ROWS = {
    "detected_s": "load's rise → more pods wanted, s",
    "first_created_s": "→ the first of them created, s",
    "first_ready_s": "→ ready, s",
    "first_answer_s": "→ its first answer, s",
    "recovery_time_s": "→ **recovery: the SLO holds again, s**",
    "slo_violation_s": "integral of SLO violations, s",
    "pods_before": "pods before the rise",
    "pods_at_most": "pods at most",
    "pods_created": "pods created after the rise",
    "late": "answers after the SLO",
    "p95_s": "p95 of all answers, s",
    "pod_seconds": "pod-seconds paid for",
    "busy_pod_seconds": "of these busy",
    "useful_pod_seconds": "with answers within the SLO",
    "wasted_pod_seconds": "**pod-seconds wasted**",
    "pods_ended_under_load": "pods ended under load",
    "asked_while_scaling_down": "asked after the load fell",
    "lost_while_scaling_down": "of these lost",
}
COUNT_ROWS = {
    "requests": "questions",
    "answered": "answered",
    "refusals": "refusals with Retry-After",
    "refused": "refused at the last attempt",
    "timeout": "timed out",
    "error": "failed",
}
ABOUT = (
    f"Open loop, {STEP_RATE:g} questions/s: {SCENARIOS['step'].describe(STEP_MINUTES * 60 * SCALE)}; 4 s of service, "
    "so 4 pods sustain 1/s and 10 sustain 2.5/s. An answer is good within {slo_s:g} s. The SLO holds in a window of 15 "
    "s when 95 % of the questions asked in it had a good answer; a recovery of 0 s says that it always did. Wasted is "
    "what was paid for and gave no good answer. cpu has 100m of the "
    f"{BUSY_POD}m that a busy pod uses here, the most favourable reading of the predecessor’s `averageValue: 100m`; "
    "cpu-low keeps the ratio that 100m has to a pod of one whole CPU. In all of them scaling down was sped up to "
    f"{SHORT['stabilizationWindowSeconds']} s and then one pod in 10 s (300 s and one in 60 s as rendered), so that it "
    "happens under load within the run."
)


def write_step(report: Report, outcomes: Mapping[str, Outcome], out: Path) -> int:
    """Write the report, and return 0 if its targets were met."""
    report["what"] = {name: arm.what for name, arm in ARMS.items()}
    report["arms"] = {name: figures_of(outcome) for name, outcome in outcomes.items()}
    report["targets"] = targets(report["arms"])
    add_traces(report, outcomes)
    return publish(report, blocks(report), out)


def blocks(report: Report) -> Iterator[Block]:
    """Yield the blocks of the report: the arms side by side."""
    yield ABOUT.format(**report)
    figures = {title: cell(name, missing="never") for name, title in ROWS.items()}
    figures |= {title: cell("counts", name) for name, title in COUNT_ROWS.items()}
    yield Table.columns_of("", report["arms"], figures)
    periods = [share * report["run_seconds"] for share in PERIODS.values()]
    yield over_time(report, list(report["arms"]), high_load=periods)


def figures_of(outcome: Outcome) -> Figures:
    """Return the figures of one autoscaler's run, times in seconds since the load rose."""
    run = outcome.report
    up, down = (share * run["seconds"] for share in PERIODS.values())
    step = Step(up=up, down=down, slo=run["slo_s"])
    return {
        **_pods(outcome, step),
        "recovery_time_s": _rounded(recovery_time(run["requests"], step)),
        "slo_violation_s": _rounded(slo_violation_seconds(run["requests"], step, run["seconds"])),
        "p95_s": run["latency_s"]["p95"],
        "late": sum(each[2] == "answered" and not step.good(each) for each in run["requests"]),
        "counts": {name: run["counts"][name] for name in COUNT_ROWS},
        **_cost(outcome, step),
        **_going_down(outcome, step),
    }


def _pods(outcome: Outcome, step: Step) -> Figures:
    samples = [replace(each, at=each.at - outcome.began) for each in outcome.seen.samples]
    came = new_pods(outcome.seen.pods, outcome.seen.lines, outcome.began + step.up)
    return {
        "detected_s": _rounded(time_to_detect(samples, step.up)),
        "first_created_s": _first(came, "created"),
        "first_ready_s": _first(came, "ready"),
        "first_answer_s": _first(came, "first_answer"),
        "pods_before": max((each.pods for each in samples if 0 <= each.at <= step.up), default=0),
        "pods_at_most": max(each.pods for each in samples),
        "pods_created": len(came),
        "new_pods": came,
    }


def _cost(outcome: Outcome, step: Step) -> Figures:
    """Return what was paid for, in pods × seconds, and what of it went into answers that came in time."""
    run, end = outcome.report, outcome.began + outcome.report["seconds"]
    paid = integral([each for each in outcome.seen.samples if outcome.began <= each.at <= end], lambda each: each.pods)
    busy = busy_seconds(outcome.seen.lines, outcome.began, end)
    useful = busy * sum(map(step.good, run["requests"])) / max(1, run["counts"]["answered"])
    return {
        "pod_seconds": round(paid),
        "busy_pod_seconds": round(busy),
        "useful_pod_seconds": round(useful),
        "wasted_pod_seconds": round(paid - useful),
    }


def _going_down(outcome: Outcome, step: Step) -> Figures:
    """Return how many pods ended while there was load, and what callers lost by it."""
    end = outcome.began + outcome.report["seconds"]
    asked = [each for each in outcome.report["requests"] if each[0] >= step.down]
    ends = [pod.ending for pod in outcome.seen.pods.values() if pod.ending is not None]
    return {
        "pods_ended_under_load": sum(outcome.began <= at <= end for at in ends),
        "asked_while_scaling_down": len(asked),
        "lost_while_scaling_down": sum(each[2] != "answered" for each in asked),
        "cut_answers": sum(line.get("outcome") == "cut" for line in outcome.seen.lines),
    }


def targets(arms: Mapping[str, Figures]) -> list[Target]:
    """Return what `requests` was to reach compared with the others, and whether it did."""
    mine, theirs = (arms[name]["recovery_time_s"] for name in ("requests", "cpu"))
    faster = mine is not None and (theirs is None or theirs >= max(FASTER * mine, 1))
    times = "{} compared with {}".format(*("never" if each is None else f"{each:g}" for each in (mine, theirs)))
    lost = sum(arm["lost_while_scaling_down"] + arm["cut_answers"] for arm in arms.values())
    wasted = {name: arm["wasted_pod_seconds"] for name, arm in arms.items()}
    return [
        new_target("recovery time, requests compared with cpu, s", times, f"{FASTER} x faster", faster),
        *(
            new_target(
                f"pod-seconds wasted, compared with {name}", wasted["requests"], f"<{limit}", wasted["requests"] < limit
            )
            for name, limit in wasted.items()
            if name != "requests"
        ),
        at_most("lost while scaling down, of all", lost, 0),
    ]


def _first(pods: Sequence[Mapping[str, float | None]], what: str) -> float | None:
    return min((time for pod in pods if (time := pod[what]) is not None), default=None)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
