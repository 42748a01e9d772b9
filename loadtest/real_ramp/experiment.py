"""`python -m loadtest.experiments real-ramp`: the ramp with a real model, one system after the other."""

import argparse
import os
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from command_line import number, one_of, whole
from config import LOCAL
from launcher.console import say
from loadtest.comparison.report import NAIVE, SLUICE
from loadtest.facts import facts, machine_busy
from loadtest.loads import LoadFailed, ramps
from loadtest.plan import TIMEOUT
from loadtest.real_ramp.calibration import SECONDS as CALIBRATION
from loadtest.real_ramp.calibration import Calibration, ask, calibrate, prompt
from loadtest.real_ramp.report import write
from loadtest.real_ramp.systems import ANSWER_TOKENS, MODEL, SYSTEMS, TUNING, prepare_model
from loadtest.real_ramp.watch import Sample, generated, watched
from loadtest.reporting.folder import Report
from loadtest.reporting.reserve import add_folder_options, reserved
from loadtest.scenarios import SCENARIOS
from service.settings import Settings
from testbed.real_ollama import models_dir

ROUNDS = 3
QUEUE_SECONDS = 55  # of a client's 90 s of patience in the queue, as in the comparison on a cluster
START_SECONDS = 15  # about, from one system to the next
# The settings that decide who waits how long; a report of the ramp has them.
SHOWN = ("slots", "threads", "context_length", "max_queue", "queue_timeout", "generation_timeout")
REAL = (
    "everything: the model {model} in Ollama {version} on the machine’s CPUs, every server and client; one machine "
    "holds the load generator too"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add, names = parser.add_argument, list(SYSTEMS)
    add("--rounds", type=whole(1, 1000), default=ROUNDS, help=f"default: {ROUNDS}")
    scaled = "of one ramp; default: scaled as the clients’ patience"
    add("--seconds", type=number(10, 86_400, of="seconds"), help=scaled)
    add("--systems", nargs="+", type=one_of(names), default=names, help=f"default: {' '.join(names)}")
    calibration = number(1, 3600, of="seconds")
    add("--calibration", type=calibration, default=CALIBRATION, metavar="S", help=f"default: {CALIBRATION:g} s")
    add_folder_options(parser, default="real-ramp")


def run(options: argparse.Namespace) -> int:
    """Calibrate, measure every system in every round, write the report, and return 0 if every target was met."""
    with reserved(options, "real-ramp") as folder, TemporaryDirectory(prefix="sluice-ramp-") as scratch:
        report = facts(folder.name, options.arguments, scale=1)
        runs = measure_all(Path(scratch), options, report)
        return write(report, runs, out=options.out)


def measure_all(folder: Path, options: argparse.Namespace, report: Report) -> list[dict[str, Any]]:
    """Return the run of every system in every round, and tell the report how they were made."""
    with machine_busy(report):
        calibration, version = measure_capacity(folder, options.calibration)
        scale = calibration.time_scale
        seconds = options.seconds or SCENARIOS["ramp"].minutes * 60 * scale
        order = schedule(options.systems, options.rounds)
        minutes = expected_minutes(order, seconds, scale)
        say(f"{len(order)} ramps of {seconds:.0f} s, about {minutes:.0f} minutes in all")
        report |= settings({**os.environ, **deadlines(scale)})
        runs = [measure(folder, system, number, scale=scale, seconds=seconds) for number, system in order]
    report |= {"simulated": "nothing", "real": REAL.format(model=MODEL, version=version), "time_scale": scale}
    report |= {"ramp_seconds": seconds, "whole_ramp": not options.seconds, "rounds": options.rounds}
    report["calibration"] = {"answers": calibration.answers, "seconds": round(calibration.seconds, 2)}
    return runs


def schedule(systems: list[str], rounds: int) -> list[tuple[int, str]]:
    """Return who is measured when, as (round, system): each round begins with the next system."""
    turned = [systems[number % len(systems) :] + systems[: number % len(systems)] for number in range(rounds)]
    return [(number + 1, system) for number, order in enumerate(turned) for system in order]


def expected_minutes(order: list[tuple[int, str]], seconds: float, scale: float) -> float:
    """Return how long the ramps take about, with the starts between them and the retries that follow them."""
    retries = sum(3 * TIMEOUT * scale for _, system in order if system == NAIVE)
    return (len(order) * (seconds + START_SECONDS) + retries) / 60


def deadlines(scale: float) -> dict[str, str]:
    """Return the deadline of Sluice's queue that fits the clients' patience, unless the caller has set another.

    Whoever would wait longer is told at once when to come back, instead of waiting in vain.
    """
    return {"QUEUE_TIMEOUT": os.environ.get("QUEUE_TIMEOUT") or f"{max(0.1, QUEUE_SECONDS * scale):.1f}"}


def settings(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return Sluice's settings in an environment, what in them isn't the default, and the memory limit they give."""
    chosen = Settings.from_environ(environ)
    named = {field.name.upper() for field in fields(Settings)} - {"PORT", "PRIVATE_PORT", "MODEL", "OLLAMA_HOST"}
    changed = {name for name, value in environ.items() if value and (name in named or name.startswith(TUNING))}
    stage = replace(LOCAL, slots=chosen.slots, context_length=chosen.context_length, requests_per_replica=1)
    return {
        "settings": {name.upper(): getattr(chosen, name) for name in SHOWN},
        "changed": {name: environ[name] for name in sorted(changed - {"OLLAMA_HOST", "OLLAMA_MODELS"})},
        "ollama_limit_mib": stage.ollama_mib,
    }


def measure_capacity(folder: Path, seconds: float) -> tuple[Calibration, str]:
    """Return what the naive system holds, and Ollama's version; the model is in the store from then on."""
    say(f"measuring for {seconds:g} s what the naive system holds")
    with SYSTEMS["ollama"](folder, models_dir()) as system:
        version = prepare_model(system.target.url)
    with SYSTEMS[NAIVE](folder, models_dir()) as system:
        calibration = calibrate(system.target, seconds=seconds)
    say(f"{calibration.seconds_an_answer:.2f} s an answer, so times are multiplied by {calibration.time_scale:.3f}")
    return calibration, version


def measure(folder: Path, name: str, number: int, *, scale: float, seconds: float) -> dict[str, Any]:
    """Start a system, run the ramp against it, stop it, and return what was seen. Raises LoadFailed."""
    say(f"round {number}: {name}")
    options: dict[str, Any] = {"minutes": seconds / 60 / scale}
    if name != NAIVE:  # Sluice has a limit of its own otherwise; nobody can tell the naive app
        options["max_tokens"] = ANSWER_TOKENS
    samples: list[Sample] = []
    more = {"deadlines": deadlines(scale)} if name == SLUICE else {}
    with SYSTEMS[name](folder, models_dir(), **more) as system:
        ask(system.target, prompt(0))  # Ollama loads the model with the first question
        since = system.log.stat().st_size
        with watched(system, samples):
            [report] = ramps({name: system.target}, scale=scale, model=MODEL, **options)
        engine = generated(system.log, since)
    if not report["counts"]["answered"]:
        raise LoadFailed(f"{name} answered nothing in round {number}, so there is nothing to compare")
    began = datetime.fromisoformat(report["started"]).timestamp()
    memory = [[round(at - began, 1), *mib] for at, *mib in samples if at >= began]
    return {"system": name, "round": number, "report": report, "memory": memory, "engine": engine}
