"""Run every measure and write docs/benchmarks.md; with names as arguments, run these and print the rows."""

import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench.http_clients import http_clients
from bench.measures import MEASURES, Row
from service.settings import available_cpus

OTHERS = "\n## From a clone to an answer\n"  # what follows is measured by `make serve` and `make e2e`
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


def main() -> None:
    """Run the measures; a missed target ends with status 1, after everything was measured."""
    names = [name.replace("-", "_") for name in sys.argv[1:]]
    chosen = [measure for measure in (*MEASURES, http_clients) if not names or measure.__name__ in names]
    rows: list[Row] = []
    for measure in chosen:
        print(f"{measure.__name__} …", file=sys.stderr, flush=True)
        for row in measure():
            rows.append(row)
            print(line(row), flush=True)
    if len(sys.argv) == 1:
        date = datetime.now(UTC).date().isoformat()
        head = HEAD.format(cpus=available_cpus(), machine=platform.machine(), date=date)
        kept = REPORT.read_text().partition(OTHERS)[2] if REPORT.exists() else ""
        REPORT.write_text(head + "".join(f"{line(row)}\n" for row in rows) + (OTHERS + kept if kept else ""))
    sys.exit(not all(row.met for row in rows))


def line(row: Row) -> str:
    """Return a row of the table."""
    return f"| {row.what} | {row.result} | {row.target} | {'yes' if row.met else '**no**'} |"


if __name__ == "__main__":
    main()
