"""A setting as a Stage in config/stages.py has it, and why it is the one."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from config import ConfigError, Stage
from tuning.measured import Measured
from tuning.objective import Slo
from tuning.setting import Setting

RESERVE = 0.75  # of a pod's slots may be busy before one more pod is started, as in every stage


def fields(setting: Setting) -> dict[str, Any]:
    """Return the Stage's fields that the setting decides."""
    wanted = max(1, int(RESERVE * setting.slots))
    found: dict[str, Any] = {"slots": setting.slots, "cpus": setting.threads, "requests_per_replica": wanted}
    if setting.kv != "f16":
        found["kv_type"] = setting.kv
    if setting.speculation != "none":
        found["speculation"] = setting.speculation
    return found


def line(setting: Setting) -> str:
    """Return the fields as they are written in config/stages.py."""
    return ", ".join(f"{name}={value!r}" for name, value in fields(setting).items()).replace("'", '"')


def evidence(found: Measured, slo: Slo) -> str:
    """Return what a setting gives, compared with what is wanted."""
    slowest = f"its slowest caller {found.slowest:.1f} tokens/s of {slo.tokens:g}{_short(slo.tokens, found.slowest)}"
    first = found.p95_first_token
    late = f" ({first / slo.first_token - 1:.0%} too late)" if first > slo.first_token else ""
    return f"{found.rate:.1f} tokens/s in all, {slowest}, p95 first token {first:.2f} s of {slo.first_token:g} s{late}"


def _short(wanted: float, got: float) -> str:
    return f" ({1 - got / wanted:.0%} too few)" if got < wanted else ""


def outside(setting: Setting, stage: Stage) -> Iterator[str]:
    """Yield what a Stage doesn't say of the setting, and what else that stage would have to change for it."""
    usual = Setting(slots=setting.slots, threads=setting.threads, kv=setting.kv, speculation=setting.speculation)
    if setting != usual:
        rest = ", ".join(each for each in setting.text().split(", ") if each not in usual.text().split(", "))
        yield f"A Stage has no field for {rest}: docs/performance.md says why."
    try:
        replace(stage, **fields(setting))
    except ConfigError as error:
        yield f"Other numbers must move with it: {error}."
