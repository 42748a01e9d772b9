"""Speeds compared with the live release's."""

import random

import pytest

from loadtest.judging.judge import SLOWER
from loadtest.judging.sequential import Verdict
from loadtest.judging.speed import BLOCK, FEWEST, Speed

LIVE = {1: [1.0] * 20, 4: [2.0] * 20, 3: [9.0] * (FEWEST - 1)}


def observed(speed: Speed, slots: int, *seconds: float) -> Speed:
    for each in seconds:
        speed.observe(slots, each)
    return speed


@pytest.mark.parametrize(("slots", "seconds"), [(1, 1.0), (4, 2.0)])
@pytest.mark.parametrize(("slower", "verdict"), [(1.0, Verdict.GOOD), (1.1, Verdict.GOOD), (1.3, Verdict.BAD)])
def test_times_are_compared_where_as_many_slots_are_busy(
    slots: int, seconds: float, slower: float, verdict: Verdict
) -> None:
    speed = observed(Speed(SLOWER, LIVE), slots, *[seconds * slower] * 40)
    assert speed.sequence.verdict is verdict
    assert speed.ratio == pytest.approx(slower)


def test_where_the_live_release_is_hardly_known_nothing_is_compared() -> None:
    speed = observed(Speed(SLOWER, LIVE), 3, *[90.0] * 100)
    assert (speed.sequence.seen, speed.ratios, speed.elsewhere) == (0, [], {3})


@pytest.mark.parametrize(("comparable", "waited"), [(19, True), (25, False)])
def test_a_verdict_is_not_waited_for_where_too_little_can_be_compared(comparable: int, waited: bool) -> None:
    speed = Speed(SLOWER, LIVE)
    assert not speed.incomparable
    observed(speed, 2, *[1.0] * (100 - comparable))
    observed(speed, 1, *[1.0] * comparable)
    assert speed.incomparable == waited


def test_without_a_live_release_nothing_is_waited_for() -> None:
    assert Speed(SLOWER, {}).incomparable


def test_some_slow_answers_in_a_row_are_one_observation() -> None:
    speed = observed(Speed(SLOWER, LIVE), 1, *[5.0] * 2, *[1.0] * (BLOCK - 2), *[5.0] * BLOCK)
    assert (speed.sequence.hits, speed.sequence.seen) == (1, 2)


def trial(chance: random.Random, noise: float, slower: float) -> Verdict:
    """Judge a release by 120 answers whose times are noise, alike where they follow each other."""

    def times(count: int, factor: float) -> list[float]:
        found, state = [], 0.0
        for _ in range(count):
            state = 0.5 * state + 0.87 * chance.gauss(0, 1)
            found.append(factor * 2.718 ** (noise * state))
        return found

    return observed(Speed(SLOWER, {2: times(40, 1.0)}), 2, *times(120, slower)).sequence.verdict


@pytest.mark.parametrize("noise", [0.05, 0.1, 0.2, 0.5])
def test_a_good_release_is_seldom_called_slow_however_noisy_and_alike_its_times_are(noise: float) -> None:
    chance = random.Random(15)
    assert sum(trial(chance, noise, 1.0) is Verdict.BAD for _ in range(300)) <= 0.07 * 300


@pytest.mark.parametrize(("noise", "found"), [(0.05, 0.99), (0.1, 0.95)])
def test_a_release_that_is_thirty_percent_slower_is_found_where_times_are_not_too_noisy(
    noise: float, found: float
) -> None:
    chance = random.Random(15)
    assert sum(trial(chance, noise, 1.3) is Verdict.BAD for _ in range(300)) >= found * 300


def test_what_noise_makes_it_unable_to_find_raises_the_limit() -> None:
    usual = Speed(SLOWER, LIVE).limit
    assert usual == pytest.approx(1.3**0.5)
    assert Speed(SLOWER, {1: [*[1.0] * 5, *[2.0] * 5] * 4}).limit > usual
