"""`python -m models NAME …`: compare models in Ollama and write a report.

Exit code 0: there is a report. 1: none of the models could be measured. 2: one sentence says what is wrong.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from config import ConfigError, find_stage
from context import CDK_JSON
from cost.prices import Prices
from launcher.arguments import Parser
from launcher.console import Problem, say
from launcher.ollama_calls import OllamaError
from loadtest.report import revision
from loadtest.write import as_json
from models import machine
from models.advice import advise
from models.energy import Energy
from models.measure import Entry, Plan, measure
from models.page import page
from models.quality import read_questions
from models.summary import summary
from models.variant import SETTINGS, InputError, Variant, read_variants
from service.settings import SettingError

FORMAT = 1
REPORTS = Path("loadtest/reports")
INTERRUPTED = 130
EXAMPLE = 'make models MODELS="moondream llama3.2 llama3.2@kv=q8_0"'
REAL = "the models, Ollama, every time, every answer."


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Compare what the arguments name, and return the exit code."""
    asked = parser().parse_args(arguments)
    try:
        variants = read_variants(asked.models)
        return compare(variants, _plan(asked, environ), asked, arguments)
    except (InputError, ConfigError, SettingError, Problem) as problem:
        print(f"sluice: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sluice: interrupted; the report has what was measured until then, if anything", file=sys.stderr)
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = Parser(prog="python -m models", description="Compare models in Ollama.", epilog=f"settings: {SETTINGS}")
    add = found.add_argument
    add("models", nargs="*", metavar="NAME[@setting=value,…]")
    add("--name", default="models", help="of the report, and of its folder (default: models)")
    add("--out", type=Path, default=REPORTS, help=f"where reports lie (default: {REPORTS})")
    add("--rounds", type=int, default=5, help="quiet rounds of the speeds (default: 5)")
    add("--questions", type=int, metavar="N", help="only the first N of each category, to try it out")
    add("--stage", default="dev", help="whose nodes 1,000 answers are priced on (default: dev)")
    add("--region", help="whose prices (default: the region in cdk.json)")
    return found


def _plan(asked: argparse.Namespace, environ: Mapping[str, str]) -> Plan:
    """Return how to measure. Raises InputError or ConfigError."""
    if not asked.models:
        raise InputError(f"no model is named: {EXAMPLE}")
    for name in ("rounds", "questions"):
        if (value := getattr(asked, name)) is not None and value < 1:
            raise InputError(f"--{name}={value} must be at least 1")
    stage = find_stage(asked.stage)
    if stage.node is None:
        raise InputError(f"--stage={stage.name} has no nodes that cost something: take dev or prod")
    region = asked.region or json.loads(CDK_JSON.read_text())["context"].get("region")
    return Plan(
        rounds=asked.rounds,
        questions=read_questions(first=asked.questions),
        stage=stage,
        prices=Prices(region) if region else None,
        environ=environ,
        energy=Energy(),
    )


def compare(variants: list[Variant], plan: Plan, asked: argparse.Namespace, arguments: list[str]) -> int:
    """Measure one after the other; the report is written after each, so that an end halfway loses nothing."""
    began, load = datetime.now(UTC), machine.load_average()
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
            folder = write(_head(asked, arguments, began, load) | _body(entries, missing, plan), asked.out)
    if not entries:
        print("sluice: none of the models could be measured: the lines above say why", file=sys.stderr)
        return 1
    say(f"the report: {folder / 'summary.md'}, and report.html beside it")
    return 0


def _head(asked: argparse.Namespace, arguments: list[str], began: datetime, load: float) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": asked.name,
        "command": f"python -m models {shlex.join(arguments)}",
        "revision": revision(),
        "started": began.isoformat(timespec="seconds"),
        "seconds": round((datetime.now(UTC) - began).total_seconds()),
        "load_average": [load, machine.load_average()],
    }


def _body(entries: list[Entry], missing: list[dict[str, str]], plan: Plan) -> dict[str, Any]:
    node = plan.stage.node
    return {
        "machine": machine.describe(),
        "ollama": entries[0]["ollama"],
        "real": REAL,
        "rounds": plan.rounds,
        "cost": {
            "stage": plan.stage.name,
            "node": node.instance_type if node else None,
            "region": plan.prices.region if plan.prices else None,
        },
        "energy": plan.energy.source,
        "recommendations": advise(entries),
        "models": entries,
        "not_compared": missing,
    }


def write(report: dict[str, Any], out: Path) -> Path:
    """Write report.json, summary.md and report.html into the folder of the report's name, and return that."""
    folder = out / str(report["name"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(as_json(report))
    (folder / "summary.md").write_text(summary(report))
    (folder / "report.html").write_text(page(report))
    return folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
