"""What is asked on the command line, checked: a bad value ends with one sentence that names it."""

import argparse
import math
from dataclasses import dataclass
from typing import Any

from config import SPECULATIONS, ConfigError, Stage, find_stage
from service.settings import available_cpus
from tuning.objective import Slo
from tuning.search import Choices
from tuning.setting import FLASH, KNOBS, KV_TYPES, Setting

MOST_SLOTS, MOST_BATCH = 256, 16_384
WORDS = {"flash": FLASH, "kv": KV_TYPES, "speculation": SPECULATIONS}
NUMBERS = {"slots": (1, MOST_SLOTS), "threads": (1, 1024), "batch": (0, MOST_BATCH)}
MEANINGS = {
    "slots": "requests at once (default: the stage's, and 2, 4, 8 and 16)",
    "threads": "CPUs that compute (default: the stage's, all of this machine and half of them)",
    "batch": "tokens of prompts in one step, 0 as Ollama has it (default: 0, 128 and 256)",
    "flash": "flash attention (default: on and off)",
    "kv": "type of the cache of keys and values (default: f16, q8_0 and q4_0)",
    "speculation": "guessing without a second model (default: none, ngram-simple, ngram-mod and ngram-cache)",
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What to tune, from where, among which values, and how long a look is in seconds."""

    model: str
    slo: Slo
    stage: Stage
    start: Setting
    choices: Choices
    seconds: float
    grid: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options, with their units."""
    add = parser.add_argument
    add("--model", default="", help="by its name in Ollama's store")
    add("--slo-first-token", default="", metavar="S", help="seconds to the first token, of 95 %%, at most")
    add("--slo-tokens", default="", metavar="N", help="tokens/s of every caller, at least")
    add("--stage", default="local", help="whose numbers are the first that are tried (default: local)")
    add("--seconds", default="5", metavar="S", help="of a look at a setting (default: 5)")
    add("--grid", action="store_true", help="measure every combination too; a knob that isn't listed stays as it is")
    for knob, meaning in MEANINGS.items():
        add(f"--{knob}", metavar="LIST", help=f"values with commas between them: {meaning}")


def read_options(asked: argparse.Namespace) -> Asked:
    """Return what is asked. Raises ConfigError."""
    if not asked.model.strip():
        raise ConfigError("MODEL is missing: name a model of Ollama's store")
    stage, cpus = find_stage(asked.stage), available_cpus()
    first = Setting(slots=stage.slots, threads=min(stage.cpus, cpus))
    choices = {knob: _values(asked, knob, first, cpus) for knob in KNOBS}
    return Asked(
        model=asked.model.strip(),
        slo=Slo(
            first_token=_above_0("SLO_FIRST_TOKEN", asked.slo_first_token, "seconds to the first token"),
            tokens=_above_0("SLO_TOKENS", asked.slo_tokens, "tokens/s of each caller"),
        ),
        stage=stage,
        start=_start(first, choices),
        choices=choices,
        seconds=_above_0("--seconds", asked.seconds, "seconds of a look"),
        grid=asked.grid,
    )


def _start(first: Setting, choices: Choices) -> Setting:
    """Return the stage's own setting, as far as its values are among those that may be tried."""
    values = {knob: getattr(first, knob) for knob in KNOBS}
    found = Setting(**{knob: value if value in choices[knob] else choices[knob][0] for knob, value in values.items()})
    if not found.can_be:
        raise ConfigError(f"kv={found.kv} needs flash=on: llama-server quantises the cache only with it")
    return found


def _values(asked: argparse.Namespace, knob: str, first: Setting, cpus: int) -> list[Any]:
    text = getattr(asked, knob)
    if text is None:
        return [getattr(first, knob)] if asked.grid else _usual(first, cpus)[knob]
    values = [_value(knob, each.strip(), cpus) for each in text.split(",")]
    return list(dict.fromkeys(values))


def _usual(first: Setting, cpus: int) -> dict[str, list[Any]]:
    return {
        "slots": sorted({first.slots, 2, 4, 8, 16}),
        "threads": sorted({first.threads, cpus, max(1, cpus // 2)}),
        "batch": [0, 128, 256],  # Ollama has 512 or more, by the context of all slots
        "flash": list(FLASH),
        "kv": list(KV_TYPES),
        "speculation": ["none", "ngram-simple", "ngram-mod", "ngram-cache"],
    }


def _value(knob: str, text: str, cpus: int) -> Any:
    if knob in WORDS:
        if text not in WORDS[knob]:
            raise ConfigError(f"--{knob}={text!r} is none of {', '.join(WORDS[knob])}")
        return text
    low, high = NUMBERS[knob]
    if not text.isdecimal() or not low <= int(text) <= high:
        raise ConfigError(f"--{knob}={text!r} is not a whole number from {low} to {high}")
    if knob == "threads" and int(text) > cpus:
        raise ConfigError(f"--threads={text} is more than the {cpus} CPUs of this machine, which makes a model crawl")
    return int(text)


def _above_0(name: str, text: str, what: str) -> float:
    if not text.strip():
        raise ConfigError(f"{name} is missing: give the {what}")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{name}={text!r} is not a number above 0: give the {what}")
    return value
