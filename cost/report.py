import json
from dataclasses import asdict, dataclass
from typing import Any

from config import Stage
from cost.estimate import Line, per_thousand
from cost.prices import Prices

NOT_COUNTED = (
    "data out to the internet (100 GB a month are free, then 9 cents a GB), traffic between zones (1 cent a GB each "
    "way), instances of `make access`, the seconds of the kubectl provider's Lambda, tax, support"
)


@dataclass(frozen=True, kw_only=True)
class CostReport:
    """An estimate with what was asked for."""

    stage: Stage
    prices: Prices
    seconds: float
    lines: list[Line]
    savings: list[Line]

    def total(self) -> Line:
        """Return the sum of all lines."""
        return Line("Total", "", sum(line.minimum for line in self.lines), sum(line.maximum for line in self.lines))

    def generations(self) -> list[tuple[float, float | None, float | None]]:
        """Return, for slots that are always taken and for the assumed share, that share and dollars for 1,000."""
        total, found = self.total(), []
        for busy in (1.0, self.prices.assume("busy_share")):
            sides = ((self.stage.min_replicas, total.minimum), (self.stage.max_replicas, total.maximum))
            slots, seconds = self.stage.slots, self.seconds
            low, high = (per_thousand(usd, replicas=n, slots=slots, seconds=seconds, busy=busy) for n, usd in sides)
            found.append((busy, low, high))
        return found

    def as_json(self) -> str:
        """Return the report as JSON."""
        keys = ("busy_share", "minimum", "maximum")
        body: dict[str, Any] = {
            "stage": self.stage.name,
            "region": self.prices.region,
            "replicas": {"minimum": self.stage.min_replicas, "maximum": self.stage.max_replicas},
            "usd_a_month": [asdict(line) for line in [*self.lines, self.total()]],
            "usd_saved_a_month": [asdict(line) for line in self.savings],
            "usd_for_1000_generations": [dict(zip(keys, row, strict=True)) for row in self.generations()],
            "seconds_per_generation": self.seconds,
            "assumptions": self.prices.assumptions,
            "prices_read": [day.isoformat() for day in self.prices.dates],
        }
        return json.dumps(body, indent=2)

    def as_markdown(self) -> str:
        """Return the report as a table that GitHub shows in a comment."""
        low, high = self.stage.min_replicas, self.stage.max_replicas
        rows = [f"| {x.item} | {x.counted} | {x.minimum:,.2f} | {x.maximum:,.2f} |" for x in self.lines]
        total = self.total()
        rows.append(f"| **Total a month** | | **{total.minimum:,.2f}** | **{total.maximum:,.2f}** |")
        rows += [f"| {x.item} would save | {x.counted} | {x.minimum:,.2f} | {x.maximum:,.2f} |" for x in self.savings]
        for busy, *sides in self.generations():
            cells = " | ".join("–" if usd is None else f"{usd:,.2f}" for usd in sides)
            rows.append(f"| 1,000 generations | of {self.seconds:g} s, slots taken {busy:.0%} of the time | {cells} |")
        assumed = [f"- `{name}` = {entry['value']}: {entry['why']}" for name, entry in self.prices.assumptions.items()]
        oldest, newest = self.prices.dates
        return "\n".join(
            [
                f"### What `{self.stage.name}` costs in {self.prices.region}",
                "",
                f"| US dollars | counted | {_replicas(low)} | {_replicas(high)} |",
                "|---|---|---:|---:|",
                *rows,
                "",
                f"List prices, read from {oldest} to {newest}; their sources are in `cost/prices.toml`. Not counted: "
                f"{NOT_COUNTED}.",
                "",
                "Assumed, and to be replaced by your own bill:",
                "",
                *assumed,
                f"- `--seconds-per-generation {self.seconds:g}`: while all {self.stage.slots} slots of a replica are "
                "taken. Take it from your own load report; 12 is the predecessor's mean, with one slot.",
            ]
        )


def _replicas(number: int) -> str:
    return f"{number} replica{'s' * (number != 1)}"
