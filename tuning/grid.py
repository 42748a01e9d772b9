"""Every combination of the values given, for how far a tuned choice is from the best there is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

from launcher.console import Problem
from launcher.ollama_calls import OllamaError
from tuning.measured import Measured, together
from tuning.objective import Slo
from tuning.search import Choices, Look
from tuning.setting import KNOBS, Setting

DUELS = 3  # looks at the choice and the grid's best in turn


def settings(choices: Choices) -> Iterator[Setting]:
    """Yield every setting there can be of these values."""
    for values in product(*(choices[knob] for knob in KNOBS)):
        setting = Setting(**dict(zip(KNOBS, values, strict=True)))
        if setting.can_be:
            yield setting


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The grid's figures, its best setting, and what looking at that and the choice in turn found.

    The best of many looks is partly the luckiest, so its first figure says too much: the two are compared anew.
    """

    figures: dict[Setting, Measured]
    best: Setting
    best_again: Measured
    choice_again: Measured


def measure_grid(look: Look, choices: Choices, say: Callable[[str], None]) -> dict[Setting, Measured]:
    """Return the figures of every setting that runs. Raises Problem when none does."""
    found: dict[Setting, Measured] = {}
    every = list(settings(choices))
    for number, setting in enumerate(every, 1):
        try:
            found[setting] = look(setting)
            say(f"grid {number} of {len(every)}: {setting.text()}: {found[setting].rate:.1f} tokens/s")
        except (OllamaError, Problem) as problem:
            say(f"grid {number} of {len(every)}: {setting.text()} doesn't run: {problem}")
    if not found:
        raise Problem("no setting of the grid runs: the lines above say why")
    return found


def compare(look: Look, slo: Slo, figures: dict[Setting, Measured], choice: Setting) -> Grid:
    """Look at the choice and at the grid's best in turn. Raises OllamaError or Problem."""
    best = max(figures, key=lambda setting: slo.rank(figures[setting]))
    turns = [(look(choice), look(best)) for _ in range(DUELS)]
    choice_again, best_again = (together(looks) for looks in zip(*turns, strict=True))
    return Grid(figures=figures, best=best, best_again=best_again, choice_again=choice_again)
