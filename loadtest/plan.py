"""What is to be run: one run of a scenario with all its numbers."""

import math
import shlex
from dataclasses import dataclass, fields
from pathlib import Path

from command_line import InputError
from loadtest.address import Address
from loadtest.scenarios import SCENARIOS, Scenario

APIS = ("sluice", "naive", "ollama")
RATE = 0.25  # questions a second at 1 ×
# A client gives up on one attempt after this many seconds, and an answer should have come after as many.
TIMEOUT, SLO = 90.0, 60.0
RETRIES = 3  # how often it asks again
PAUSE = 1.0  # seconds from an answer to the same user's next question
MOST_USERS = 2000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run. None: as the scenario or the target has it. Raises InputError where two things don't go together."""

    scenario: str
    target: Address
    model: str  # "": whichever is served, until it is known
    name: str
    out: Path
    api: str = "sluice"
    rate: float | None = None  # questions a second at 1 ×
    users: int | None = None  # at most
    minutes: float | None = None
    time_scale: float = 1
    timeout: float = TIMEOUT
    slo: float = SLO
    retries: int = RETRIES
    warm_up: int = 4
    max_tokens: int | None = None
    probe: bool = True
    namespace: str = ""
    stage: str = ""
    digest: str = ""
    node: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.rate is not None and not self.shape.has_rate:
            raise InputError(f"--rate doesn't go with {self.scenario}, which has users instead: see --users")
        if not self.model and self.api != "sluice":
            raise InputError(f"--model is missing: --api {self.api} doesn't say which one it serves")
        if self.max_tokens and self.api == "naive":
            raise InputError("--max-tokens can't be told to --api naive: leave it out")

    @property
    def shape(self) -> Scenario:
        """Return the scenario's own numbers."""
        return SCENARIOS[self.scenario]

    @property
    def base_rate(self) -> float:
        """Return the questions a second at 1 ×, of a scenario that has a rate."""
        return RATE if self.rate is None else self.rate

    @property
    def seconds(self) -> float:
        """Return how long questions are asked."""
        return (self.minutes or self.shape.minutes) * 60 * self.time_scale

    @property
    def patience(self) -> float:
        """Return the seconds after which a client gives up on an attempt."""
        return self.timeout * self.time_scale

    @property
    def limit(self) -> float:
        """Return the seconds within which an answer is good."""
        return self.slo * self.time_scale

    @property
    def most_users(self) -> int:
        """Return how many may ask at once: with a rate, twice what waits when every attempt times out."""
        if not self.shape.has_rate:
            return self.users or round(self.shape.peak)
        enough = math.ceil(2 * self.base_rate * self.shape.peak * self.patience)
        return self.users or min(MOST_USERS, max(10, enough))

    @property
    def command(self) -> str:
        """Return the command that runs this again."""
        words = ["python", "-m", "loadtest", "run"]
        for field in fields(self):
            value, option = getattr(self, field.name), f"--{field.name.replace('_', '-')}"
            value = value.url if isinstance(value, Address) else value
            if field.name != "out" and value != field.default:
                words += (
                    ["--no-probe"]
                    if field.name == "probe"
                    else [option, f"{value:g}" if isinstance(value, float) else str(value)]
                )
        return shlex.join(words)

    @property
    def streams(self) -> bool:
        """Say whether one stream at a time runs alongside the scenario, for what k6 can't see."""
        return self.probe and self.api != "naive"

    def environ(self) -> dict[str, str]:
        """Return what lib.js and run.js read."""
        values = {
            "SCENARIO": self.scenario,
            "TARGET": self.target.with_credentials,
            "MODEL": self.model,
            "API": self.api,
            "TIMEOUT": self.patience,
            "RETRIES": self.retries,
            "WARM_UP": self.warm_up,
            "MAX_TOKENS": self.max_tokens or 0,
            "PAUSE": 0 if self.shape.has_rate else PAUSE * self.time_scale,
            "SECONDS": self.seconds,
            "USERS": self.most_users,
            "RATE": self.base_rate,
            "SLO": self.limit,
        }
        return {name: str(value) for name, value in values.items()}
