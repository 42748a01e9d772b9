"""Run every measure and write docs/benchmarks.md; with names as arguments, run these and print the rows."""

import argparse
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench.http_clients import http_clients
from bench.measures import MEASURES, Row
from command_line import Parser, one_of, run
from service.settings import available_cpus

OTHERS = "\n## From a clone to an answer\n"  # what follows is measured by `make serve` and `make e2e`
BY_NAME = {measure.__name__.replace("_", "-"): measure for measure in (*MEASURES, http_clients)}
REPORT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

```
make bench
```

One run on {cpus} CPUs ({machine}), {date}. The stand-in is `testbed/stand_in/`, an Ollama without a model; the real
model is the 270M Gemma from PyPI. Load generator, gateway and model shared the CPUs, so compare within a row, not
with other machines. Requests to both sides of a row were sent in turn or one after the other in the same run.

| What | Measured | Target | Met |
|---|---|---|---|
"""


def main(arguments: list[str]) -> int:
    """Run the measures and return the exit code."""
    parser, names = Parser(prog="python -m bench"), list(BY_NAME)
    parser.add_argument("measures", nargs="*", type=one_of(names), help=f"any of {', '.join(names)}; default: all")
    parser.set_defaults(run=measure_all)
    return run(parser, arguments)


def measure_all(options: argparse.Namespace) -> int:
    """Run the measures; a missed target gives 1, after everything was measured."""
    chosen = [BY_NAME[name] for name in options.measures or BY_NAME]
    rows: list[Row] = []
    for measure in chosen:
        print(f"{measure.__name__} …", file=sys.stderr, flush=True)
        for row in measure():
            rows.append(row)
            print(line(row), flush=True)
    if not options.measures:
        date = datetime.now(UTC).date().isoformat()
        head = HEAD.format(cpus=available_cpus(), machine=platform.machine(), date=date)
        kept = REPORT.read_text().partition(OTHERS)[2] if REPORT.exists() else ""
        REPORT.write_text(head + "".join(f"{line(row)}\n" for row in rows) + (OTHERS + kept if kept else ""))
    return 0 if all(row.met for row in rows) else 1


def line(row: Row) -> str:
    """Return a row of the table."""
    return f"| {row.what} | {row.result} | {row.target} | {'yes' if row.met else '**no**'} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
