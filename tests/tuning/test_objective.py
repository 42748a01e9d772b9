from dataclasses import replace

from tests.support.measured import SLO, found
from tuning.measured import together
from tuning.objective import HOPELESS, NOISE


def test_a_setting_meets_the_slo_only_with_both_of_its_figures() -> None:
    assert SLO.met_by(found(slowest=5.0, first=2.0))
    assert not SLO.met_by(found(slowest=4.9))
    assert not SLO.met_by(found(first=2.1))
    assert SLO.closeness(found(slowest=2.5, first=3.0)) == 0.5


def test_more_tokens_win_only_by_more_than_noise_and_never_over_the_slo() -> None:
    assert not SLO.better(found(40 * NOISE), found(40))
    assert SLO.better(found(40 * NOISE + 0.1), found(40))
    assert SLO.better(found(20), found(400, slowest=4.9))
    assert not SLO.better(found(400, slowest=4.9), found(20))
    assert SLO.better(found(10, slowest=4.0), found(400, slowest=3.0)), "closer, where none meets it"


def test_what_a_second_look_cannot_turn_round_is_hopeless() -> None:
    assert SLO.hopeless(found(40 * HOPELESS - 0.1), found(40))
    assert not SLO.hopeless(found(40 * HOPELESS + 0.1), found(40))
    assert SLO.hopeless(found(400, slowest=1.0), found(40))
    assert not SLO.hopeless(found(390, slowest=4.9), found(400, slowest=5.0)), "a hair off the SLO may be noise"


def test_looks_are_averaged_and_their_first_tokens_pooled() -> None:
    both = together(
        [found(30, 8, 1.0, memory_mib=None, efficiency=None), found(50, 12, 3.0, memory_mib=310, others=0.2)]
    )
    assert (both.rate, both.slowest, both.first_tokens) == (40, 10, (1.0, 3.0))
    assert (both.memory_mib, both.efficiency, both.others, both.looks) == (310, 20.0, 0.2, 2)
    assert replace(both, first_tokens=tuple(map(float, range(100)))).p95_first_token == 95.0
