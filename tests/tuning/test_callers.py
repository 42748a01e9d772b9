import threading
import time
from collections.abc import Iterator

import pytest

from launcher.ollama_calls import OllamaError
from tuning.callers import BEGUN, ENOUGH, TOKENS, Callers
from tuning.prompts import prompt


def test_callers_ask_all_the_time_and_their_figures_follow() -> None:
    def ask(text: str, tokens: int) -> Iterator[None]:
        time.sleep(0.05)
        for _ in range(4):
            yield
            time.sleep(0.01)

    callers = Callers(ask, 3, 0.5)
    callers.run()
    assert 0.5 <= callers.ended - callers.began < 2
    assert 3 <= callers.rate <= 1.3 * 3 * 4 / 0.09  # the first and the last answer are counted in part
    assert 10 <= callers.slowest <= 100
    assert min(callers.first_tokens) >= 0.05
    begun = [answer for own in callers.answers for answer in own if answer.asked >= callers.began]
    assert len(callers.first_tokens) == len(begun) >= 3


def test_a_look_lasts_until_every_caller_has_enough_tokens_to_tell() -> None:
    def ask(text: str, tokens: int) -> Iterator[None]:
        for _ in range(tokens):
            time.sleep(0.003)
            yield

    callers = Callers(ask, 2, 0.1)
    callers.run()
    counted = [[at for answer in own for at in answer.tokens if at >= callers.began] for own in callers.answers]
    assert min(map(len, counted)) >= ENOUGH
    assert len(callers.first_tokens) >= BEGUN


def test_what_is_read_at_the_start_is_not_counted_and_first_answers_end_one_after_the_other() -> None:
    lengths: list[int] = []

    def ask(text: str, tokens: int) -> Iterator[None]:
        lengths.append(tokens)
        time.sleep(0.3 if len(lengths) <= 4 else 0.001)
        for _ in range(tokens):
            time.sleep(0.002)
            yield

    callers = Callers(ask, 4, 0.2)
    callers.run()
    assert lengths[:4] == [TOKENS // 4, TOKENS // 2, TOKENS * 3 // 4, TOKENS]
    assert set(lengths[4:]) == {TOKENS}
    assert max(callers.first_tokens) < 0.3
    assert callers.rate > 4 * 0.5 / 0.025, "0.3 s without a token would have halved it"


def test_a_setting_too_slow_for_a_look_is_told_by_what_there_is() -> None:
    def ask(text: str, tokens: int) -> Iterator[None]:
        time.sleep(0.05)
        for _ in range(tokens):
            yield
            time.sleep(0.04)

    callers = Callers(ask, 2, 0.02)
    callers.run()
    assert callers.ended - callers.began < 1
    assert min(callers.first_tokens) >= 0.05 and len(callers.first_tokens) == 2
    assert 5 < callers.slowest <= 25


def test_a_model_that_says_nothing_ends_the_look_all_the_same() -> None:
    def ask(text: str, tokens: int) -> Iterator[None]:
        time.sleep(0.005)
        yield from ()

    callers = Callers(ask, 2, 0.02)
    callers.run()
    assert (callers.rate, callers.slowest, callers.first_tokens) == (0, 0, ())


def test_a_caller_that_fails_ends_the_look_for_all() -> None:
    failed = threading.Event()

    def ask(text: str, tokens: int) -> Iterator[None]:
        if text.startswith("2."):
            failed.set()
            raise OllamaError(500, "the model died")
        while True:
            assert failed.wait(10)
            time.sleep(0.01)
            yield

    began = time.monotonic()
    with pytest.raises(OllamaError, match="the model died"):
        Callers(ask, 3, 30).run()
    assert time.monotonic() - began < 10


def test_prompts_are_the_same_each_time_and_none_starts_as_another() -> None:
    assert [prompt(number) for number in range(1, 40)] == [prompt(number) for number in range(1, 40)]
    assert len({prompt(number)[:4] for number in range(1, 40)}) == 39
    texts = [prompt(number) for number in range(1, 401)]
    assert sum("Copy this text" in text for text in texts) == sum("Sum up" in text for text in texts) == 100
    assert {len(text.split()) > 50 for text in texts if "this text" in text} == {True}
