"""What was tried and found, in Markdown."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from config import Stage
from loadtest.document import markdown_table
from tuning.grid import Grid
from tuning.measured import Measured
from tuning.objective import Slo
from tuning.search import Trial
from tuning.setting import KNOBS, Setting
from tuning.stage_line import evidence, line, outside

FIGURES = ("tokens/s", "slowest caller, tokens/s", "p95 first token, s", "tokens/CPU s", "llama-server, MiB", "others")
HEAD = (*KNOBS, "looks", *FIGURES)
OTHERS = 0.1  # of the CPUs, used by something else: above it, figures are too low and don't compare


@dataclass(frozen=True, kw_only=True)
class Report:
    """All there is to tell. machine: as models.machine.describe() gives it. seconds: of a look; took: of the search."""

    command: str
    machine: dict[str, Any]
    ollama: str
    model: str
    context_length: int
    slo: Slo
    trials: list[Trial]
    choice: Trial
    grid: Grid | None
    seconds: float
    took: float
    stage: Stage

    def markdown(self) -> str:
        """Return it as a page."""
        return "\n".join([*self._head(), *self._tried(), *self._grid(), *self._choice()])

    def _head(self) -> Iterator[str]:
        machine = self.machine
        yield f"# {self.model}, tuned\n"
        yield f"```\n{self.command}\n```\n"
        yield (
            f"{machine['cpu']} ({machine['machine']}), {machine['cpus']} CPUs, {machine['memory_gib']} GiB; "
            f"Ollama {self.ollama}; {self.context_length} tokens of context a slot."
        )
        yield (
            f"SLO: first token within {self.slo.first_token:g} s for 95 %, {self.slo.tokens:g} tokens/s for every "
            f"caller. As many callers as slots ask without a pause, {self.seconds:g} s a look; "
            f"{sum(len(trial.looks) for trial in self.trials)} looks took {self.took:.0f} s in all.\n"
        )

    def _tried(self) -> Iterator[str]:
        yield "## Tried\n"
        yield markdown_table([[*HEAD, "what became of it"], *([*row(each), each.fate] for each in self.trials)]) + "\n"
        busy = max((look.others for trial in self.trials for look in trial.looks), default=0.0)
        if busy > OTHERS:
            yield f"Something else used up to {busy:.0%} of the CPUs meanwhile: measure again on an idle machine.\n"

    def _grid(self) -> Iterator[str]:
        if self.grid is None:
            return
        grid = self.grid
        yield "## The whole grid\n"
        yield markdown_table([HEAD, *(_cells(setting, found) for setting, found in grid.figures.items())]) + "\n"
        yield (
            f"The grid's best is {grid.best.text()}. Looked at {grid.choice_again.looks} times in turn, the choice "
            f"gave {grid.choice_again.rate:.1f} tokens/s and the grid's best {grid.best_again.rate:.1f}: the choice is "
            f"at {grid.choice_again.rate / grid.best_again.rate:.0%}{self._kept(grid)}.\n"
        )

    def _kept(self, grid: Grid) -> str:
        one, other = self.slo.closeness(grid.choice_again), self.slo.closeness(grid.best_again)
        return f" (nearness to the SLO, 1 where it is met: {one:.2f} and {other:.2f})"

    def _choice(self) -> Iterator[str]:
        yield "## The line for the Stage\n"
        setting, found = self.choice.setting, self.choice.found
        if not self.slo.met_by(found):
            yield f"No setting meets the SLO. Closest comes {setting.text()}: {evidence(found, self.slo)}."
            return
        yield f"```\n{line(setting)}\n```\n"
        yield f"{evidence(found, self.slo)}; {found.looks} looks."
        yield from outside(setting, self.stage)


def row(trial: Trial) -> list[str]:
    """Return a trial's cells; one that doesn't run has no figures."""
    if trial.looks:
        return _cells(trial.setting, trial.found)
    return [*_knobs(trial.setting), "0", *["–"] * len(FIGURES)]


def _cells(setting: Setting, found: Measured) -> list[str]:
    memory = "–" if found.memory_mib is None else str(found.memory_mib)
    figures = (f"{found.rate:.1f}", f"{found.slowest:.1f}", f"{found.p95_first_token:.2f}")
    efficiency = "–" if found.efficiency is None else f"{found.efficiency:.1f}"
    return [*_knobs(setting), str(found.looks), *figures, efficiency, memory, f"{found.others:.0%}"]


def _knobs(setting: Setting) -> list[str]:
    values = {knob: str(getattr(setting, knob)) for knob in KNOBS}
    return list((values | {"batch": "–"} if not setting.batch else values).values())
