from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from launcher.console import Problem
from launcher.ollama_calls import OllamaError
from tests.support.measured import CHOICES, SLO, USUAL, found
from tuning.grid import measure_grid, settings
from tuning.measured import Measured
from tuning.objective import Slo
from tuning.search import REPEATS, Search
from tuning.setting import Setting


def modelled(setting: Setting) -> Measured:
    """A machine on which slots share the weights until they fill it, and knobs that change a step's time."""
    step = 0.02 + 0.004 * setting.slots + (0.3 if setting.slots > 8 else 0.0)
    step *= {1: 1.8, 2: 1.0}[setting.threads]
    step *= {"on": 1.0, "off": 1.15}[setting.flash] * {"f16": 1.0, "q8_0": 1.08, "q4_0": 0.9}[setting.kv]
    step *= {"ngram-simple": 1.0 - 0.3 / setting.slots, "ngram-cache": 1.5}.get(setting.speculation, 1.0)
    step *= {0: 1.0, 128: 0.93, 256: 1.0}[setting.batch]
    return found(setting.slots / step, 1 / step, 0.1 * setting.slots)


class Looks:
    def __init__(self, machine: Callable[[Setting], Measured], noise: float = 0.0) -> None:
        self.machine, self.noise, self.chance, self.seen = machine, noise, Random(7), list[Setting]()

    def __call__(self, setting: Setting) -> Measured:
        self.seen.append(setting)
        exact, factor = self.machine(setting), self.chance.uniform(1 - self.noise, 1 + self.noise)
        return replace(exact, rate=exact.rate * factor, slowest=exact.slowest * factor)


def test_changes_that_win_only_together_are_found() -> None:
    def machine(setting: Setting) -> Measured:
        both = setting.slots == 8 and setting.batch == 128
        return found(60 if both else 41 if setting.slots == 8 or setting.batch == 128 else 40)

    search = Search(machine, SLO, {**CHOICES, "threads": [2]}, lambda line: None)
    best = search.run(USUAL)
    assert (best.setting.slots, best.setting.batch, best.fate) == (8, 128, "the choice")
    assert search.trials[USUAL].fate == "left for slots=8, batch=128"


def test_a_look_that_something_else_disturbs_is_made_again_so_often_as_there_is_time_for() -> None:
    shares = iter([0.0, 0.5, 0.4, 0.0, *[0.9] * 100])
    said = list[str]()
    search = Search(lambda setting: found(others=next(shares)), SLO, CHOICES, said.append)
    best = search.run(USUAL)
    assert [look.others for look in best.looks[:1]] == [0.0]
    assert len([line for line in said if "looking again, since something else used" in line]) == REPEATS
    assert "looking again, since something else used 50% of the CPUs" in said[1]


def search(looks: Looks, slo: Slo = SLO, **choices: list[Any]) -> Search:
    return Search(looks, slo, CHOICES | choices, lambda line: None)


@pytest.mark.parametrize("noise", [0.0, 0.03])
@pytest.mark.parametrize("slo", [SLO, Slo(first_token=0.5, tokens=5), Slo(first_token=2, tokens=24)], ids=str)
@pytest.mark.parametrize("start", [USUAL, Setting(slots=16, threads=1), Setting(slots=2, threads=2)], ids=str)
def test_the_choice_is_within_a_tenth_of_the_grids_best_for_few_looks(start: Setting, slo: Slo, noise: float) -> None:
    looks = Looks(modelled, noise)
    choice = search(looks, slo).run(start)
    best = max(map(modelled, settings(CHOICES)), key=slo.rank)
    assert slo.met_by(best), "this test needs an SLO that can be met"
    assert slo.closeness(modelled(choice.setting)) >= 1 - noise
    assert modelled(choice.setting).rate >= 0.9 * best.rate
    assert len(looks.seen) <= 45
    assert len(list(settings(CHOICES))) == 384


def test_what_loses_clearly_is_looked_at_once_and_says_by_how_much() -> None:
    looks = Looks(modelled)
    trials = search(looks)
    trials.run(USUAL)
    one_thread = Setting(slots=4, threads=1)
    assert looks.seen.count(one_thread) == 1
    assert trials.trials[one_thread].fate == (
        "dropped after the first look at threads: 61.7 tokens/s where 111.1 are had"
    )


def test_a_gain_within_noise_leaves_the_setting_as_it_was() -> None:
    def flat(setting: Setting) -> Measured:
        return found(40 * (1.04 if setting.kv == "q8_0" else 1.0))

    trials = search(Looks(flat))
    choice = trials.run(USUAL)
    assert choice.setting == USUAL
    assert trials.trials[USUAL.with_("kv", "q8_0")].fate == "not better than kv=f16 by more than noise"


def test_a_setting_that_won_its_first_look_alone_is_not_taken() -> None:
    looks: list[Setting] = []

    def machine(setting: Setting) -> Measured:
        looks.append(setting)
        lucky = setting.batch == 128 and looks.count(setting) == 1
        return found(80 if lucky else 39 if setting.batch == 128 else 40 if setting == USUAL else 20)

    trials = search(Looks(machine))
    assert trials.run(USUAL).setting == USUAL
    assert looks.count(USUAL.with_("batch", 128)) == 2


def test_slots_are_raced_again_once_a_step_has_become_cheaper() -> None:
    def machine(setting: Setting) -> Measured:
        each = (30 if setting.speculation == "ngram-simple" else 20) / setting.slots**0.5
        return found(setting.slots * each, each)

    assert search(Looks(machine), Slo(first_token=2, tokens=9)).run(USUAL).setting.slots == 8


def test_what_does_not_run_is_dropped_with_the_reason_and_the_rest_goes_on() -> None:
    def machine(setting: Setting) -> Measured:
        if setting.slots > 4:
            raise OllamaError(500, "out of memory")
        return modelled(setting)

    trials = search(Looks(machine))
    assert trials.run(USUAL).setting.slots == 4
    assert trials.trials[replace(USUAL, slots=8)].fate == "doesn't run: out of memory"


def test_a_first_setting_that_does_not_run_is_a_problem() -> None:
    def machine(setting: Setting) -> Measured:
        raise Problem("no space")

    with pytest.raises(Problem, match=r"slots=4, threads=2.*no space"):
        search(Looks(machine)).run(USUAL)


def test_where_nothing_meets_the_slo_the_choice_is_what_comes_closest() -> None:
    choice = search(Looks(modelled), Slo(first_token=2, tokens=1000)).run(USUAL)
    assert (choice.setting.slots, choice.setting.threads, choice.fate) == (2, 2, "the closest")


def test_a_quantised_cache_is_never_tried_without_flash_attention() -> None:
    looks = Looks(modelled)
    search(looks).run(USUAL)
    measure_grid(looks, CHOICES, lambda line: None)
    assert not [setting for setting in looks.seen if setting.flash == "off" and setting.kv != "f16"]
