"""`python -m cost.bill`: what each key and model used, by the gateways' log lines, in the dollars that the nodes cost.

The pods' lines are enough: `capacity` says which slots there were and for how long, `request` who held one and for how
long. Dollars are divided by these seconds; what nobody held is the row `idle`. So all rows together are what the nodes
of the pods cost while the pods ran.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from command_line import InputError, Parser, add_region, read_stage, region, run
from config import ConfigError, Stage
from cost.budgets import mark, read_budgets
from cost.estimate import HOURS, pods_per_node
from cost.prices import Prices

NO_KEY = "(no key)"  # of a stage that lets everybody in
IDLE = "(idle)"


@dataclass
class Use:
    """What one key has used of one model."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    slot_seconds: float = 0.0

    def add(self, line: dict[str, Any]) -> None:
        """Count a request's line."""
        self.requests += 1
        self.prompt_tokens += line.get("prompt_tokens", 0)
        self.completion_tokens += line.get("completion_tokens", 0)
        self.slot_seconds += line["slot_ms"] / 1000


@dataclass
class Usage:
    """All that was used, by key and model, and what there was: pod-seconds, and slot-seconds by model."""

    uses: dict[tuple[str, str], Use] = field(default_factory=dict)
    pod_seconds: Counter[str] = field(default_factory=Counter)
    slot_seconds: Counter[str] = field(default_factory=Counter)

    def add(self, line: dict[str, Any]) -> None:
        """Take a line in: of a request that held a slot, or of a pod's capacity."""
        if line["message"] == "capacity":
            self.pod_seconds[line["model"]] += line["seconds"]
            self.slot_seconds[line["model"]] += line["slots"] * line["seconds"]
        elif "slot_ms" in line:
            self.uses.setdefault((line.get("key", NO_KEY), line["model"]), Use()).add(line)


@dataclass(frozen=True)
class Row:
    """A line of the bill."""

    key: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    slot_seconds: float
    usd: float


def main(arguments: list[str]) -> int:
    """Print the bill and return the exit code."""
    return run(parser(), arguments)


def parser() -> Parser:
    """Return the command line."""
    made = Parser(prog="python -m cost.bill", description="Who used what of a stage, and what it cost.")
    add = made.add_argument
    add("files", nargs="*", type=Path, metavar="FILE", help="log lines of the pods; default: standard input")
    add("--stage", type=read_stage, required=True, help="on whose nodes the pods run")
    add("--from", dest="begin", type=moment, metavar="TIME", help="only lines from then on, such as 2026-11-01")
    add("--to", dest="end", type=moment, metavar="TIME", help="only lines before then, such as 2026-12-01T00:00Z")
    add(
        "--budgets",
        type=Path,
        metavar="FILE",
        help="TOML: `KEY = dollars` until --to",
    )
    add("--keys", type=Path, metavar="FILE", help="keys.toml: what is spent is marked there")
    add("--json", action="store_true")
    add_region(made)
    made.set_defaults(run=bill)
    return made


def moment(text: str) -> datetime:
    """Read a time in ISO 8601, in UTC unless it says otherwise."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time in ISO 8601, such as 2026-11-01T12:00Z") from None
    return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)


def bill(options: argparse.Namespace) -> int:
    """Print who used what. Raises InputError or ConfigError."""
    stage, prices = options.stage, Prices(region(options.region))
    budgets = read_budgets(options.budgets) if options.budgets else {}
    if options.keys and not (options.budgets and options.end):
        raise InputError("--keys needs --budgets, and --to: when the budgets renew")
    if options.begin and options.end and options.begin >= options.end:
        raise InputError(f"--from {options.begin:%Y-%m-%dT%H:%MZ} must be before --to {options.end:%Y-%m-%dT%H:%MZ}")
    pod_hours = usd_per_pod_hours(stage, prices)
    usage = Usage()
    for line in between(read(options.files), options.begin, options.end):
        usage.add(line)
    if not usage.pod_seconds:
        where = ", ".join(map(str, options.files)) or "standard input"
        when = " in that time" if options.begin or options.end else ""
        raise InputError(f"no capacity line of a pod in {where}{when}: docs/operations.md says where the lines are")
    found = list(rows(usage, pod_hours))
    spent = [key for key, usd in budgets.items() if sum(row.usd for row in found if row.key == key) >= usd]
    if options.keys:
        mark(options.keys, budgets, spent, options.end)
    print(json.dumps([asdict(row) for row in found], indent=2) if options.json else table(found, usage, pod_hours))
    return 0


class PodHours(dict[str, float]):
    """What an hour of a pod costs by its model. One that the stage doesn't serve any more had the first one's pods."""

    def __missing__(self, model: str) -> float:
        """Return the default model's."""
        return next(iter(self.values()))


def usd_per_pod_hours(stage: Stage, prices: Prices) -> PodHours:
    """Return what a pod of each model costs, the default one first. Raises ConfigError."""
    return PodHours({view.model.name: usd_per_pod_hour(view, prices) for view in stage.each_model})


def usd_per_pod_hour(stage: Stage, prices: Prices) -> float:
    """Return a pod's share of its node: the instance, Auto Mode's fee and the disk. Raises ConfigError."""
    if stage.node is None:
        raise ConfigError(f"stage {stage.name!r} isn't for AWS, so it costs nothing there")
    instance, disk = prices[stage.node.instance_type], prices["gp3"] * prices.assume("node_disk_gb") / HOURS
    return (instance * (1 + prices["auto_mode"]) + disk) / pods_per_node(stage, stage.node)


def read(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Yield the lines of requests and of capacity in the files, or in standard input. Raises InputError."""
    if not files:
        if sys.stdin.isatty():
            raise InputError("there are no files, and standard input is a terminal: pipe the pods' log lines in")
        yield from filter(None, map(parse, sys.stdin))
    for file in files:
        try:
            with file.open(errors="replace") as lines:
                yield from filter(None, map(parse, lines))
        except OSError as error:
            raise InputError(f"{file} can't be read: {error.strerror}") from None


def parse(text: str) -> dict[str, Any] | None:
    """Return a log line of ours, whatever wraps it; None for any other.

    `kubectl logs --prefix` and `aws logs tail` write a prefix; Fluent Bit has the line as text in the field `log`.
    """
    _, brace, rest = text.partition("{")
    try:
        line = json.loads(brace + rest)
    except ValueError:
        return None
    if isinstance(line.get("log"), str):
        return parse(line["log"])
    return line if line.get("message") in ("request", "capacity") and "time" in line else None


def between(lines: Iterable[dict[str, Any]], begin: datetime | None, end: datetime | None) -> Iterator[dict[str, Any]]:
    """Yield the lines written from `begin` on and before `end`."""
    for line in lines:
        written = datetime.fromisoformat(line["time"])
        if (begin is None or written >= begin) and (end is None or written < end):
            yield line


def rows(usage: Usage, pod_hours: Mapping[str, float]) -> Iterator[Row]:
    """Yield a row for each key and model, the most expensive first, and what was idle of each model."""
    slot_second = {
        model: pod_hours[model] / 3600 * usage.pod_seconds[model] / seconds
        for model, seconds in usage.slot_seconds.items()
    }
    found = [
        Row(key, model, **asdict(use), usd=use.slot_seconds * slot_second.get(model, 0.0))
        for (key, model), use in usage.uses.items()
    ]
    yield from sorted(found, key=lambda row: -row.usd)
    for model, seconds in usage.slot_seconds.items():
        idle = seconds - sum(row.slot_seconds for row in found if row.model == model)
        yield Row(IDLE, model, 0, 0, 0, idle, idle * slot_second[model])


def table(found: list[Row], usage: Usage, pod_hours: Mapping[str, float]) -> str:
    """Return the bill in Markdown."""
    lines = ["| key | model | requests | prompt tokens | completion tokens | slot-seconds | US dollars |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|")
    for row in found:
        figures = f"{row.requests:,} | {row.prompt_tokens:,} | {row.completion_tokens:,} | {row.slot_seconds:,.1f}"
        lines.append(f"| {row.key} | {row.model} | {figures} | {row.usd:,.4f} |")
    total = sum(row.usd for row in found)
    lines.append(f"| **all** | | | | | **{sum(row.slot_seconds for row in found):,.1f}** | **{total:,.4f}** |")
    for model, seconds in usage.pod_seconds.items():
        pods = f"{seconds / 3600:,.2f} hours of pods of {model} at {pod_hours[model]:.4f} dollars an hour"
        lines += ["", f"{pods}: their nodes, with Auto Mode's fee and disks."]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
