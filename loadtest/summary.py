"""A report in a page of Markdown."""

import math

from loadtest.report import Report

NOT_ANSWERED = {
    "refused": "refused to the last try",
    "timeout": "timed out",
    "error": "failed",
    "bad_answer": "answered with nothing, or with half an answer",
}


def summary(report: Report) -> str:
    """Return the Markdown: what was run, how it went, and the figures with their 95 % intervals."""
    return "\n".join([f"# {report['name']}", "", verdict(report), "", *_about(report), "", *_table(report), ""])


def verdict(report: Report) -> str:
    """Return what came of it in a sentence."""
    if not report["valid"]:
        return f"**Invalid**: {'; '.join(report['invalid_because'])}."
    broken = [
        f"{each['what']} is {each['value']:g}, not {each['limit']}" for each in report["thresholds"] if not each["kept"]
    ]
    return f"**A threshold is broken**: {'; '.join(broken)}." if broken else "Every threshold was kept."


def rows(report: Report) -> list[tuple[str, str]]:
    """Return the figures, each with its name."""
    counts = report["counts"]
    failed = ", ".join(f"{counts[name]} {text}" for name, text in NOT_ANSWERED.items() if counts[name])
    return [
        ("questions", str(counts["requests"])),
        ("answered", f"{counts['answered']}: {100 * report['answered_share']:.2f} %"),
        ("of these after a retry", str(counts["answered_after_retry"])),
        ("not answered", failed or "none"),
        ("refusals that said when to come back", f"{counts['refusals']} of {counts['attempts']} attempts"),
        ("throughput", f"{report['throughput']:.3f} answers/s"),
        (f"goodput: within {report['slo_s']:g} s", f"{report['goodput']:.3f} answers/s"),
        *_times("time to the whole answer, retries included", report["latency_s"]),
        *_times("time to first token (the stream beside)", report["ttft_s"]),
        *_times("time between tokens (the stream beside)", report["itl_s"]),
    ]


def _times(name: str, table: dict[str, list[float]] | None) -> list[tuple[str, str]]:
    if table is None:
        return []
    return [(f"{name}, {key}", _interval(*table[key])) for key in ("p50", "p95", "p99")]


def _interval(value: float, low: float, high: float) -> str:
    unit, scale = ("ms", 1000) if value < 1 else ("s", 1)
    digits = [max(0, 2 - math.floor(math.log10(max(each * scale, 0.01)))) for each in (value, low, high)]
    texts = [f"{each * scale:.{digits_}f}" for each, digits_ in zip((value, low, high), digits, strict=True)]
    return f"{texts[0]} {unit} ({texts[1]} to {texts[2]})"


def _about(report: Report) -> list[str]:
    settings, client = report["settings"], report["client"]
    load = f"{settings['users']} users at most" if "users" in settings else f"{settings['rate']:g} questions/s at 1 ×"
    where = ", ".join(str(report[name]) for name in ("stage", "node", "digest") if report[name])
    return [
        f"`{report['scenario']}` with {load}, {report['seconds']:g} s from {report['started']}, against "
        f"{report['model']} at {report['target']} ({settings['api']}{'; ' + where if where else ''}); up to "
        f"{settings['retries']} retries, {settings['timeout_s']:g} s an attempt. "
        f"Revision {report['revision']}, client with {client['cpus']} CPUs ({client['machine']}).",
        *(["", report["note"]] if report["note"] else []),
        *["", f"    {report['command']}"],
    ]


def _table(report: Report) -> list[str]:
    limits = [(each["what"], f"{each['value']:g}, limit {each['limit']}") for each in report["thresholds"]]
    return ["| | (95 % interval) |", "|---|---|", *(f"| {name} | {text} |" for name, text in [*rows(report), *limits])]
