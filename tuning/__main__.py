"""`python -m tuning --model NAME --slo-first-token S --slo-tokens N`: which setting serves a model best here.

The report goes to stdout, what happens meanwhile to stderr. Exit code 0: a setting meets the SLO. 1: none does.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial

from command_line import Parser, run
from launcher.console import Problem
from launcher.ollama_calls import OllamaError
from loadtest.models.machine import describe
from tuning.engine import Pod
from tuning.grid import Grid, compare, measure_grid
from tuning.measured import Measured
from tuning.options import TuningRequest, add_options, read_options
from tuning.report import TuningReport
from tuning.search import Search
from tuning.setting import Setting

PROGRAM = "python -m tuning"


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Tune, print the report, and return the exit code."""
    parser = Parser(prog=PROGRAM, description="Find which setting of a pod serves a model best on this machine.")
    add_options(parser)
    parser.set_defaults(run=partial(tune_and_print, environ=environ))
    return run(parser, arguments, Problem, OllamaError, interrupted="interrupted; nothing of it is left running")


def tune_and_print(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Tune and print the report. Raises InputError, Problem or OllamaError."""
    asked = read_options(options)
    with redirect_stdout(sys.stderr):  # what the launcher says of installing Ollama is no part of the report
        report = tune(asked, environ, f"{PROGRAM} {shlex.join(options.arguments)}")
    print(report.markdown())
    return 0 if asked.slo.met_by(report.choice.found) else 1


def tune(asked: TuningRequest, environ: Mapping[str, str], command: str) -> TuningReport:
    """Return what was found. Raises Problem or OllamaError."""
    pod = Pod(model=asked.model, context_length=asked.stage.context_length, environ=environ)
    version = pod.check(asked.start)
    looks = _Looks(pod, asked.seconds)
    search = Search(looks, asked.slo, asked.choices, _say)
    began = time.monotonic()
    choice = search.run(asked.start)
    took = time.monotonic() - began
    return TuningReport(
        asked=asked,
        command=command,
        machine=describe(),
        ollama=version,
        trials=list(search.trials.values()),
        choice=choice,
        grid=_grid(looks, asked, choice.setting) if asked.grid else None,
        took=took,
    )


@dataclass(frozen=True)
class _Looks:
    pod: Pod
    seconds: float

    def __call__(self, setting: Setting) -> Measured:
        return self.pod.look(setting, self.seconds)


def _grid(looks: _Looks, asked: TuningRequest, choice: Setting) -> Grid:
    return compare(looks, asked.slo, measure_grid(looks, asked.choices, _say), choice)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
