"""What to tune, as the command line says it."""

import argparse
from dataclasses import dataclass
from typing import Any

from command_line import InputError, form, listed, number, one_of, read_stage, whole
from config import SPECULATIONS, Stage
from service.cpus import available_cpus
from tuning.objective import Slo
from tuning.search import Choices
from tuning.setting import FLASH, KNOBS, KV_TYPES, Setting

MOST_SLOTS, MOST_BATCH = 256, 16_384
# How the values of each knob are read, and what they mean.
KNOB_OPTIONS = {
    "slots": (whole(1, MOST_SLOTS), "requests at once (default: the stage's, and 2, 4, 8 and 16)"),
    "threads": (whole(1, 1024), "CPUs that compute (default: the stage's, all of this machine and half of them)"),
    "batch": (whole(0, MOST_BATCH), "tokens of prompts in one step, 0 as Ollama has it (default: 0, 128 and 256)"),
    "flash": (one_of(FLASH), "flash attention (default: on and off)"),
    "kv": (one_of(KV_TYPES), "type of the cache of keys and values (default: f16, q8_0 and q4_0)"),
    "speculation": (
        one_of(SPECULATIONS),
        "guessing without a second model (default: none, ngram-simple, ngram-mod and ngram-cache)",
    ),
}


@dataclass(frozen=True, kw_only=True)
class TuningRequest:
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
    seconds, tokens = number(above=True, of="seconds"), number(above=True, of="tokens/s")
    add("--model", required=True, type=form(r"\S+", "a model's name"), help="by its name in Ollama's store")
    first = "seconds to the first token, of 95 %%, at most"
    add("--slo-first-token", required=True, type=seconds, metavar="S", help=first)
    add("--slo-tokens", required=True, type=tokens, metavar="N", help="tokens/s of every caller, at least")
    add("--stage", default="local", type=read_stage, help="whose numbers are the first that are tried (default: local)")
    add("--seconds", default=5.0, type=seconds, metavar="S", help="of a look at a setting (default: 5)")
    add("--grid", action="store_true", help="measure every combination too; a knob that isn't listed stays as it is")
    for knob, (read, meaning) in KNOB_OPTIONS.items():
        add(f"--{knob}", type=listed(read), metavar="LIST", help=f"values with commas between them: {meaning}")


def read_options(asked: argparse.Namespace) -> TuningRequest:
    """Return what is asked. Raises InputError."""
    cpus, most = available_cpus(), max(asked.threads or [0])
    if most > cpus:
        raise InputError(f"--threads {most} is more than the {cpus} CPUs of this machine, which makes a model crawl")
    stage = asked.stage.find(asked.model) or asked.stage.each_model[0]  # as the model's pods are, or the first one's
    first = Setting(slots=stage.slots, threads=min(stage.cpus, cpus))
    usual = {knob: [getattr(first, knob)] for knob in KNOBS} if asked.grid else _usual(first, cpus)
    choices = {knob: list(dict.fromkeys(getattr(asked, knob) or usual[knob])) for knob in KNOBS}
    return TuningRequest(
        model=asked.model,
        slo=Slo(first_token=asked.slo_first_token, tokens=asked.slo_tokens),
        stage=stage,
        start=_start(first, choices),
        choices=choices,
        seconds=asked.seconds,
        grid=asked.grid,
    )


def _start(first: Setting, choices: Choices) -> Setting:
    """Return the stage's own setting, as far as its values are among those that may be tried."""
    values = {knob: getattr(first, knob) for knob in KNOBS}
    found = Setting(**{knob: value if value in choices[knob] else choices[knob][0] for knob, value in values.items()})
    if not found.can_be:
        raise InputError(f"--kv {found.kv} needs --flash on: llama-server quantises the cache only with it")
    return found


def _usual(first: Setting, cpus: int) -> dict[str, list[Any]]:
    return {
        "slots": sorted({first.slots, 2, 4, 8, 16}),
        "threads": sorted({first.threads, cpus, max(1, cpus // 2)}),
        "batch": [0, 128, 256],  # Ollama has 512 or more, by the context of all slots
        "flash": list(FLASH),
        "kv": list(KV_TYPES),
        "speculation": ["none", "ngram-simple", "ngram-mod", "ngram-cache"],
    }
