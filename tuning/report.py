"""What was tried and found, in Markdown."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from loadtest.reporting.document import Block, Cell, Code, Table, markdown
from tuning.grid import Grid
from tuning.measured import Measured
from tuning.options import TuningRequest
from tuning.search import Trial
from tuning.setting import KNOBS, Setting
from tuning.stage_line import evidence, line, outside

OTHERS = 0.1  # of the CPUs, used by something else: above it, figures are too low and don't compare
FIGURES: dict[str, Cell] = {
    "looks": lambda found: str(found.looks),
    "tokens/s": lambda found: f"{found.rate:.1f}",
    "slowest caller, tokens/s": lambda found: f"{found.slowest:.1f}",
    "p95 first token, s": lambda found: f"{found.p95_first_token:.2f}",
    "tokens/CPU s": lambda found: "–" if found.efficiency is None else f"{found.efficiency:.1f}",
    "llama-server, MiB": lambda found: "–" if found.memory_mib is None else str(found.memory_mib),
    "others": lambda found: f"{found.others:.0%}",
}


@dataclass(frozen=True, kw_only=True)
class TuningReport:
    """All there is to tell. machine: as models.machine.describe() gives it. took: seconds of the search."""

    asked: TuningRequest
    command: str
    machine: dict[str, Any]
    ollama: str
    trials: list[Trial]
    choice: Trial
    grid: Grid | None
    took: float

    def markdown(self) -> str:
        """Return it as a page."""
        return markdown([*self._head(), *self._tried(), *self._grid(), *self._choice()], f"{self.asked.model}, tuned")

    def _head(self) -> Iterator[Block]:
        machine, slo = self.machine, self.asked.slo
        yield Code(self.command)
        yield (
            f"{machine['cpu']} ({machine['machine']}), {machine['cpus']} CPUs, {machine['memory_gib']} GiB; "
            f"Ollama {self.ollama}; {self.asked.stage.context_length} tokens of context a slot."
        )
        yield (
            f"SLO: first token within {slo.first_token:g} s for 95 %, {slo.tokens:g} tokens/s for every caller. As "
            f"many callers as slots ask without a pause, {self.asked.seconds:g} s a look; "
            f"{sum(len(trial.looks) for trial in self.trials)} looks took {self.took:.0f} s in all."
        )

    def _tried(self) -> Iterator[Block]:
        rows = [[*_cells(trial.setting, trial.found if trial.looks else None), trial.fate] for trial in self.trials]
        yield Table([[*KNOBS, *FIGURES, "outcome"], *rows], title="Settings tried")
        busy = max((look.others for trial in self.trials for look in trial.looks), default=0.0)
        if busy > OTHERS:
            yield f"Something else used up to {busy:.0%} of the CPUs meanwhile: measure again on an idle machine."

    def _grid(self) -> Iterator[Block]:
        if self.grid is None:
            return
        grid = self.grid
        one, other = self.asked.slo.closeness(grid.choice_again), self.asked.slo.closeness(grid.best_again)
        rows = [_cells(setting, found) for setting, found in grid.figures.items()]
        yield Table([[*KNOBS, *FIGURES], *rows], title="The whole grid")
        yield (
            f"The grid's best is {grid.best.text()}. Looked at {grid.choice_again.looks} times in turn, the choice "
            f"gave {grid.choice_again.rate:.1f} tokens/s and the grid's best {grid.best_again.rate:.1f}: the choice is "
            f"at {grid.choice_again.rate / grid.best_again.rate:.0%} (nearness to the SLO, 1 where it is met: "
            f"{one:.2f} and {other:.2f})."
        )

    def _choice(self) -> Iterator[Block]:
        title, setting, found = "The line for the Stage", self.choice.setting, self.choice.found
        if not self.asked.slo.met_by(found):
            yield f"## {title}"
            yield f"No setting meets the SLO. Closest comes {setting.text()}: {evidence(found, self.asked.slo)}."
            return
        yield Code(line(setting), title=title)
        yield f"{evidence(found, self.asked.slo)}; {found.looks} looks."
        yield from outside(setting, self.asked.stage)


def _cells(setting: Setting, found: Measured | None) -> list[str]:
    """Return a row; a setting that doesn't run has no figures."""
    knobs = [str(getattr(setting, knob) or "–") for knob in KNOBS]
    return (
        [*knobs, *(figure(found) for figure in FIGURES.values())]
        if found
        else [*knobs, "0", *["–"] * (len(FIGURES) - 1)]
    )
