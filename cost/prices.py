import tomllib
from datetime import date
from pathlib import Path

from config import ConfigError

PRICES = Path(__file__).with_name("prices.toml")


class Prices:
    """The price table's column of one region. Raises ConfigError when there is none."""

    def __init__(self, region: str, path: Path = PRICES) -> None:
        table = tomllib.loads(path.read_text())
        self.region, self._prices, self.assumptions = region, table["prices"], table["assumptions"]
        regions = {name for price in self._prices.values() for name, entry in price.items() if isinstance(entry, dict)}
        if region not in regions:
            raise ConfigError(f"region {region!r} has no prices in {path.name}: {', '.join(sorted(regions))} have")

    def __getitem__(self, name: str) -> float:
        """Return a price in dollars for its unit."""
        if self.region not in self._prices.get(name, {}):
            raise ConfigError(f"{name} has no price for {self.region} in prices.toml: add it, with its page and date")
        return float(self._prices[name][self.region]["usd"])

    def assume(self, name: str) -> float:
        """Return an assumption's value."""
        return float(self.assumptions[name]["value"])

    @property
    def dates(self) -> tuple[date, date]:
        """Return the days on which the oldest and the newest price of the region were read."""
        read = [price[self.region]["as_of"] for price in self._prices.values() if self.region in price]
        return min(read), max(read)
