import pytest

from launcher.console import Problem
from launcher.ollama_calls import OllamaError
from tests.support.measured import CHOICES, SLO, USUAL, found
from tuning.grid import compare, measure_grid
from tuning.measured import Measured
from tuning.setting import Setting


def test_the_grids_best_and_the_choice_are_compared_by_new_looks_in_turn() -> None:
    lucky = Setting(slots=8, threads=2)
    calls: list[Setting] = []

    def machine(setting: Setting) -> Measured:
        calls.append(setting)
        first = calls.count(setting) == 1
        return found(100 if setting == lucky and first else 50 if setting == lucky else 48)

    figures = measure_grid(
        machine,
        {**CHOICES, **{k: v[:1] for k, v in CHOICES.items() if k not in ("slots", "threads")}},
        lambda line: None,
    )
    grid = compare(machine, SLO, figures, USUAL)
    assert grid.best == lucky
    assert (grid.choice_again.rate, grid.best_again.rate) == (48, 50)
    assert calls[-6:] == [USUAL, lucky] * 3


def test_a_grid_of_which_nothing_runs_is_a_problem() -> None:
    def machine(setting: Setting) -> Measured:
        raise OllamaError(500, "no")

    with pytest.raises(Problem, match="no setting of the grid runs"):
        measure_grid(machine, CHOICES, lambda line: None)
