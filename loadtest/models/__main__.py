"""`python -m loadtest.models NAME …`: compare models in Ollama and write a report.

Exit code 0: there is a report. 1: none of the models could be measured.
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping
from functools import partial

import psutil

from command_line import InputError, Parser, add_region, read_stage, region, run, whole
from cost.prices import Prices
from launcher.console import Problem, say
from launcher.ollama_calls import OllamaError
from loadtest.models import machine
from loadtest.models.advice import advise
from loadtest.models.measure import Entry, Plan, measure
from loadtest.models.quality import read_questions
from loadtest.models.summary import blocks
from loadtest.models.variant import SETTINGS, Variant, read_variants
from loadtest.reporting.folder import Report, new_report, write
from loadtest.reporting.reserve import add_folder_options, reserved
from service.settings import SettingError

EXAMPLE = 'make models MODELS="moondream llama3.2 llama3.2@kv=q8_0"'
REAL = "the models, Ollama, every time, every answer"


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Compare what the arguments name, and return the exit code."""
    made = parser()
    made.set_defaults(run=partial(compare, environ=environ))
    said = "interrupted; the report has what was measured until then, if anything"
    return run(made, arguments, SettingError, Problem, interrupted=said)


def parser() -> Parser:
    """Return the command line."""
    found = Parser(
        prog="python -m loadtest.models", description="Compare models in Ollama.", epilog=f"settings: {SETTINGS}"
    )
    add = found.add_argument
    add("models", nargs="*", metavar="NAME[@setting=value,…]")
    add_folder_options(found, default="models")
    add("--rounds", type=whole(1), default=5, help="quiet rounds of the speeds (default: 5)")
    add("--questions", type=whole(1), metavar="N", help="only the first N of each category, to try it out")
    add("--stage", type=read_stage, default="dev", help="whose nodes 1,000 answers are priced on (default: dev)")
    add_region(found)
    return found


def compare(asked: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Measure one model after the other, and return the exit code. Raises InputError, SettingError or Problem."""
    variants, plan = read_variants(asked.models), _plan(asked, environ)
    with reserved(asked, "models") as folder:
        entries = measure_all(variants, plan, asked, folder.name)
    if not entries:
        print("sluice: none of the models could be measured: the lines above say why", file=sys.stderr)
        return 1
    say(f"the report: {folder / 'summary.md'}, and report.html next to it")
    return 0


def _plan(asked: argparse.Namespace, environ: Mapping[str, str]) -> Plan:
    """Return how to measure. Raises InputError or ConfigError."""
    if not asked.models:
        raise InputError(f"no model is named: {EXAMPLE}")
    if asked.stage.node is None:
        raise InputError(f"--stage {asked.stage.name} has no nodes that cost something: take dev or prod")
    return Plan(
        rounds=asked.rounds,
        questions=read_questions(first=asked.questions),
        stage=asked.stage,
        prices=Prices(priced) if (priced := region(asked.region, required=False)) else None,
        environ=environ,
    )


def measure_all(variants: list[Variant], plan: Plan, asked: argparse.Namespace, name: str) -> list[Entry]:
    """Measure one after the other; the report is written after each, so that an end halfway loses nothing."""
    began, load = time.monotonic(), machine.load_average()
    report = new_report(name, ["loadtest.models", *asked.arguments]) | _about(plan)
    entries: list[Entry] = []
    missing: list[dict[str, str]] = []
    for number, variant in enumerate(variants, 1):
        say(f"[{number} of {len(variants)}] {variant.label}")
        try:
            entries.append(measure(variant, plan))
        except (Problem, OllamaError, psutil.NoSuchProcess) as problem:
            say(f"{variant.label} is not compared: {problem}")
            missing.append({"model": variant.label, "reason": str(problem)})
        if entries:
            report |= {"seconds": round(time.monotonic() - began), "load_average": [load, machine.load_average()]}
            report |= {"ollama": entries[0]["ollama"], "recommendations": advise(entries)}
            report |= {"models": entries, "not_compared": missing}
            write(report, blocks(report), asked.out)
    return entries


def _about(plan: Plan) -> Report:
    node, region = plan.stage.node, plan.prices.region if plan.prices else None
    cost = {"stage": plan.stage.name, "node": node.instance_type if node else None, "region": region}
    return {**machine.describe(), "real": REAL, "simulated": "nothing", "rounds": plan.rounds, "cost": cost}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
