import math

import pytest

from service.suspects import ALONE, LONGEST_TRIAL, TRIAL, Run, Suspects
from service.suspicions import KNOWN, MEMORY, Culprit
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def suspects(clock: Clock) -> Suspects:
    return Suspects(clock)


def send(suspects: Suspects, fingerprint: str) -> Run:
    """Return a run that is with the engine."""
    run = suspects.run(fingerprint)
    assert run.wait(0)
    run.send()
    return run


def die(*runs: Run) -> None:
    """Kill the engine under runs, each of which then tells of it."""
    assert [run.died() for run in runs] == [True] + [False] * (len(runs) - 1)


def test_requests_run_together_until_the_engine_dies(suspects: Suspects) -> None:
    for run in [send(suspects, name) for name in "abc"]:
        run.end(answered=True)


def test_those_that_were_there_at_a_death_are_tried_one_by_one_before_all_others(suspects: Suspects) -> None:
    die(*[send(suspects, name) for name in "ab"])
    other, a, b = (suspects.run(name) for name in "xab")
    assert [run.wait(0) for run in (other, b, a)] == [False, False, True]
    a.send()
    assert [run.wait(0) for run in (other, b)] == [False, False]
    a.end(answered=True)
    assert [run.wait(0) for run in (other, b)] == [False, True]
    b.end(answered=True)
    assert other.wait(0)
    for run in (send(suspects, "a"), send(suspects, "b")):  # both are cleared
        run.end(answered=True)


def test_a_request_that_ended_another_gateways_engine_runs_alone_and_is_the_culprit_of_the_next_death(
    suspects: Suspects, clock: Clock
) -> None:
    suspects.suspect("a", 1)
    a, other = suspects.run("a"), suspects.run("x")
    assert [run.wait(0) for run in (other, a)] == [False, True]
    a.send()
    assert not other.wait(0)
    with pytest.raises(Culprit):
        a.died()
    assert other.wait(0)


def test_deaths_that_other_gateways_report_are_counted_until_the_answer_and_delay_nobody(suspects: Suspects) -> None:
    for deaths in (1, 2, 3):
        suspects.report("a")
        assert suspects.reported("a") == deaths
    a, other = send(suspects, "a"), send(suspects, "x")
    other.end(answered=True)
    assert suspects.reported("a") == 3
    a.end(answered=True)
    assert suspects.reported("a") == 0


def test_the_newest_suspect_is_tried_first(suspects: Suspects, clock: Clock) -> None:
    old = send(suspects, "old")
    clock.now += 1
    new = send(suspects, "new")
    assert old.died(again=True)
    assert not old.wait(0)  # the newer one has still to find out
    assert not new.died(again=True)
    assert [run.wait(0) for run in (old, new)] == [False, True]


def test_who_is_alone_at_its_second_death_is_the_culprit_and_never_sent_again(suspects: Suspects) -> None:
    die(*[send(suspects, name) for name in "ab"])
    a, waiting = send(suspects, "a"), suspects.run("a")
    with pytest.raises(Culprit) as culprit:
        a.died()
    assert culprit.value.first
    with pytest.raises(Culprit):
        waiting.wait(0)
    with pytest.raises(Culprit):
        suspects.run("a").wait(0)
    assert send(suspects, "b")


def test_one_death_convicts_nobody_even_alone(suspects: Suspects) -> None:
    die(send(suspects, "a"))
    send(suspects, "a").end(answered=True)
    die(send(suspects, "a"))
    assert send(suspects, "a")


def test_two_deaths_in_company_convict_nobody(suspects: Suspects, clock: Clock) -> None:
    die(send(suspects, "a"))
    a = send(suspects, "a")
    a.progress()
    clock.now += TRIAL
    die(a, send(suspects, "b"))
    assert send(suspects, "a")


def test_copies_of_a_request_are_one_suspect(suspects: Suspects) -> None:
    die(*[send(suspects, "a") for _ in range(4)])
    a, copy = send(suspects, "a"), suspects.run("a")
    assert not copy.wait(0)
    a.end(answered=True)
    assert copy.wait(0)


def test_a_trial_ends_some_seconds_after_the_first_piece(suspects: Suspects, clock: Clock) -> None:
    die(send(suspects, "a"))
    a, other = send(suspects, "a"), suspects.run("b")
    clock.now += TRIAL
    assert not other.wait(0)
    a.progress()
    assert other.wait(0)


def test_a_trial_never_lasts_longer_than_its_limit(suspects: Suspects, clock: Clock) -> None:
    die(send(suspects, "a"))
    send(suspects, "a")
    other = suspects.run("b")
    clock.now += LONGEST_TRIAL
    assert other.wait(0)


def test_a_suspect_waits_for_answers_that_are_under_way_but_not_long(suspects: Suspects, clock: Clock) -> None:
    die(*[send(suspects, name) for name in "ab"])
    a, b = send(suspects, "a"), suspects.run("b")
    a.progress()
    clock.now += ALONE - 1
    assert not b.wait(0)
    clock.now += 1
    assert b.wait(0)


def test_one_that_kills_late_is_found_and_not_who_was_sent_meanwhile(suspects: Suspects, clock: Clock) -> None:
    late, near = send(suspects, "late"), send(suspects, "near")
    die(late, near)
    late, near = send(suspects, "late"), suspects.run("near")
    late.progress()
    clock.now += ALONE
    assert near.wait(0)
    near.send()
    assert late.died(again=True)
    assert not near.died(again=True)
    assert near.wait(0)  # the newest, now with nothing beside it until its answer is whole
    near.send()
    near.progress()
    clock.now += TRIAL
    assert not late.wait(0)
    near.end(answered=True)
    assert late.wait(0)
    late.send()
    late.progress()
    clock.now += TRIAL
    with pytest.raises(Culprit):
        late.died(again=True)


def test_a_request_that_never_reached_the_engine_is_no_suspect(suspects: Suspects) -> None:
    a, b = send(suspects, "a"), send(suspects, "b")
    b.unsent()
    die(a)
    b.end(answered=False)
    assert send(suspects, "b")
    assert send(suspects, "c")


def test_a_death_is_told_of_late_only_once(suspects: Suspects) -> None:
    late, a = send(suspects, "late"), send(suspects, "a")
    assert a.died()
    late_again = suspects.run("late")
    assert not late_again.wait(0)  # the first of its runs has not ended
    assert not late.died()
    assert late_again.wait(0)


def test_a_culprit_that_someone_else_found_is_refused(suspects: Suspects) -> None:
    suspects.convict("a")
    with pytest.raises(Culprit):
        suspects.run("a").wait(0)


def test_everything_is_forgotten_in_time(suspects: Suspects, clock: Clock) -> None:
    suspects.convict("a")
    clock.now += MEMORY
    assert send(suspects, "a")


def test_no_more_than_a_number_is_remembered(suspects: Suspects) -> None:
    for index in range(KNOWN + 1):
        suspects.convict(f"{index}")
    assert send(suspects, "0")
    with pytest.raises(Culprit):
        suspects.run("1").wait(0)


@pytest.fixture
def watched(suspects: Suspects) -> Suspects:
    suspects.watched = True
    return suspects


def leave(suspects: Suspects, fingerprint: str) -> None:
    """Send a request whose client goes before anything of its answer has come."""
    send(suspects, fingerprint).end(answered=False)


def test_who_leaves_before_the_engine_is_found_stuck_is_a_suspect_too(suspects: Suspects) -> None:
    leave(suspects, "x")
    honest = send(suspects, "honest")
    suspects.stuck()
    assert not honest.died(again=True, cut=True)
    assert honest.wait(0)
    honest.end(answered=True)
    x = send(suspects, "x")
    assert x.deaths == 1
    x.end(answered=True)
    assert send(suspects, "honest").deaths == 0


def test_who_sticks_the_engine_and_leaves_is_refused_and_nobody_beside_it(watched: Suspects) -> None:
    for _ in range(2):
        leave(watched, "x")
        honest = watched.run("honest")
        if honest.wait(0):  # the first time: nothing is known of x
            honest.send()
        watched.stuck()
        honest.end(answered=False)  # its own time is over
        watched.proven(math.inf)
    assert send(watched, "honest")
    with pytest.raises(Culprit):
        watched.run("x").wait(0)


def test_after_a_suspect_that_left_nothing_is_sent_before_the_engine_is_proven(watched: Suspects, clock: Clock) -> None:
    die(send(watched, "a"))
    leave(watched, "a")
    other = watched.run("x")
    assert watched.doubtful
    assert not other.wait(0)
    watched.proven(clock.now)  # asked before it left
    assert not other.wait(0)
    watched.proven(clock.now + 1)
    assert other.wait(0)


def test_a_suspect_is_tried_on_an_engine_that_nobody_may_have_stuck(watched: Suspects, clock: Clock) -> None:
    die(send(watched, "a"))
    watched.run("a").end(answered=False)
    leave(watched, "new")
    assert watched.doubtful is False  # nobody is waiting to be tried
    a = watched.run("a")
    assert watched.doubtful
    assert not a.wait(0)
    clock.now += 1
    watched.proven(clock.now)
    assert a.wait(0)


def test_nobody_waits_for_a_proof_where_nobody_asks_for_one(suspects: Suspects) -> None:
    die(send(suspects, "a"))
    leave(suspects, "a")
    assert not suspects.doubtful
    assert send(suspects, "x")


def test_who_left_is_no_suspect_once_the_engine_is_heard_of(clock: Clock) -> None:
    heard = 0.0
    suspects = Suspects(clock, lambda: heard)
    leave(suspects, "x")
    clock.now += 1
    heard = clock.now + 1
    suspects.stuck()
    assert send(suspects, "x").deaths == 0


def test_one_alone_beside_who_left_is_no_culprit(suspects: Suspects) -> None:
    die(send(suspects, "a"))
    leave(suspects, "x")
    die(send(suspects, "a"))
    assert send(suspects, "a")


def test_those_that_are_cut_are_no_death_and_the_others_wait_for_all_of_them(watched: Suspects) -> None:
    a, b = send(watched, "a"), send(watched, "b")
    watched.stuck()
    other = watched.run("x")
    watched.proven(math.inf)
    assert not a.died(again=True, cut=True)
    assert not other.wait(0)
    b.end(answered=False)
    a.wait(0)
    a.end(answered=True)
    assert other.wait(0)


def test_nothing_is_sent_and_no_death_is_told_while_the_engine_is_started_again(watched: Suspects) -> None:
    watched.stuck()
    late = watched.run("late")
    assert not late.wait(0)
    watched.watched = False  # the watch can't get through
    assert late.wait(0)
    late.send()
    assert not late.died()


def test_a_request_that_waited_for_the_engine_belongs_to_the_one_it_was_sent_to(suspects: Suspects) -> None:
    killer, waiting, newcomer = send(suspects, "killer"), send(suspects, "waiting"), suspects.run("newcomer")
    waiting.unsent()
    assert killer.died()
    waiting.send()
    assert newcomer.wait(0)
    newcomer.end(answered=False)
    assert waiting.died()
    assert send(suspects, "waiting").deaths == 1


def test_silence_counts_from_when_the_engine_was_heard_or_given_something_to_do(clock: Clock) -> None:
    heard = 0.0
    suspects = Suspects(clock, lambda: heard)
    assert suspects.silent_for() == 0
    first = send(suspects, "a")
    clock.now += 5
    send(suspects, "b")
    assert suspects.silent_for() == 5
    heard = clock.now - 2
    assert suspects.silent_for() == 2
    heard = 0.0
    first.end(answered=False)
    assert suspects.silent_for() == 0


def test_the_engines_queue_is_free_once_fewer_than_its_slots_are_before_one(suspects: Suspects, clock: Clock) -> None:
    first, second = send(suspects, "a"), send(suspects, "a")
    asked = clock.now
    assert suspects.freed(3, asked) == -math.inf
    assert suspects.freed(2, asked) == math.inf
    clock.now += 3
    first.end(answered=False)
    send(suspects, "later")
    clock.now += 3
    second.end(answered=False)
    assert suspects.freed(2, asked) == asked + 3
    assert suspects.freed(1, asked) == asked + 6
