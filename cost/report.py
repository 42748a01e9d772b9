import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from config import Stage
from cost.estimate import Line, per_thousand, shares
from cost.prices import Prices

NOT_COUNTED = (
    "data out to the internet (100 GB a month are free, then 9 cents a GB), traffic between zones (1 cent a GB each "
    "way), a hosted zone with a domain (50 cents), instances of `make access`, the seconds of the kubectl provider's "
    "Lambda, tax, support"
)


@dataclass(frozen=True, kw_only=True)
class CostReport:
    """An estimate with what was asked for."""

    stage: Stage
    prices: Prices
    seconds: float
    lines: list[Line]
    savings: list[Line]
    seconds_of: Mapping[str, float] = field(default_factory=dict)  # of models whose generations take others

    def total(self) -> Line:
        """Return the sum of all lines."""
        return Line("Total", "", sum(line.minimum for line in self.lines), sum(line.maximum for line in self.lines))

    def generations(self, model: str = "") -> list[tuple[float, float | None, float | None]]:
        """Return, for slots that are always taken and for the assumed share, that share and dollars for 1,000.

        model: whose they are, by default the first one's. A model bears the part of the costs that its nodes have in
        those of all models.
        """
        view, total, found = self.stage.of(model) if model else self.stage, self.total(), []
        low_share, high_share = shares(self.stage, self.prices)[view.model.name]
        for busy in (1.0, self.prices.assume("busy_share")):
            sides = ((view.min_replicas, low_share * total.minimum), (view.max_replicas, high_share * total.maximum))
            slots, seconds = view.slots, self._seconds(view)
            low, high = (per_thousand(usd, replicas=n, slots=slots, seconds=seconds, busy=busy) for n, usd in sides)
            found.append((busy, low, high))
        return found

    def _seconds(self, view: Stage) -> float:
        return self.seconds_of.get(view.model.name, self.seconds)

    def as_json(self) -> str:
        """Return the report as JSON."""
        first, *more = map(self._of_model, self.stage.each_model)
        body: dict[str, Any] = {
            "stage": self.stage.name,
            "region": self.prices.region,
            **first,
            "more_models": more,
            "usd_a_month": [asdict(line) for line in [*self.lines, self.total()]],
            "usd_saved_a_month": [asdict(line) for line in self.savings],
            "assumptions": self.prices.assumptions,
            "prices_read": [day.isoformat() for day in self.prices.dates],
        }
        return json.dumps(body, indent=2)

    def _of_model(self, view: Stage) -> dict[str, Any]:
        keys = ("busy_share", "minimum", "maximum")
        return {
            "model": view.model.name,
            "replicas": {"minimum": view.min_replicas, "maximum": view.max_replicas},
            "usd_for_1000_generations": [
                dict(zip(keys, row, strict=True)) for row in self.generations(view.model.name)
            ],
            "seconds_per_generation": self._seconds(view),
        }

    def as_markdown(self) -> str:
        """Return the report as a table that GitHub shows in a comment."""
        rows = [f"| {x.item} | {x.counted} | {x.minimum:,.2f} | {x.maximum:,.2f} |" for x in self.lines]
        total = self.total()
        rows.append(f"| **Total a month** | | **{total.minimum:,.2f}** | **{total.maximum:,.2f}** |")
        rows += [f"| {x.item} would save | {x.counted} | {x.minimum:,.2f} | {x.maximum:,.2f} |" for x in self.savings]
        rows += [row for view in self.stage.each_model for row in self._generation_rows(view)]
        assumed = [f"- `{name}` = {entry['value']}: {entry['why']}" for name, entry in self.prices.assumptions.items()]
        oldest, newest = self.prices.dates
        return "\n".join(
            [
                f"### What `{self.stage.name}` costs in {self.prices.region}",
                "",
                f"| US dollars | counted | {self._replicas()} |",
                "|---|---|---:|---:|",
                *rows,
                "",
                f"List prices, read from {oldest} to {newest}; their sources are in `cost/prices.toml`. Not counted: "
                f"{NOT_COUNTED}.",
                "",
                "Assumed, and to be replaced by your own bill:",
                "",
                *assumed,
                *map(self._assumed_seconds, self.stage.each_model),
            ]
        )

    def _replicas(self) -> str:
        if self.stage.more_models:
            return "fewest replicas | most replicas"
        sides = (self.stage.min_replicas, self.stage.max_replicas)
        return " | ".join(f"{number} replica{'s' * (number != 1)}" for number in sides)

    def _generation_rows(self, view: Stage) -> Iterator[str]:
        whose = f" by {view.model.name}" if self.stage.more_models else ""
        for busy, *sides in self.generations(view.model.name):
            cells = " | ".join(map(_dollars, sides))
            of = f"of {self._seconds(view):g} s, slots taken {busy:.0%} of the time"
            yield f"| 1,000 generations{whose} | {of} | {cells} |"

    def _assumed_seconds(self, view: Stage) -> str:
        whose = f"{view.model.name}=" if self.stage.more_models else ""
        return (
            f"- `--seconds-per-generation {whose}{self._seconds(view):g}`: while all {view.slots} slots of a replica "
            "are taken. Take it from your own load report; 12 is the predecessor's mean, with one slot."
        )


def _dollars(usd: float | None) -> str:
    """Return dollars in cents, or in hundredths of a cent where they are less than one."""
    if usd is None:
        return "–"
    return f"{usd:,.2f}" if usd >= 0.01 else f"{usd:.4f}"
