import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.known_patterns import FORMATS, KNOWN
from service.patterns import BadPattern, safe_pattern
from tests.support.patterns import EVERYDAY

EVERYDAY_IDS = list(EVERYDAY)


def texts(pattern: str) -> st.SearchStrategy[str]:
    """Draw texts that fit what is sent on for a pattern, of a range of all characters only those at its ends.

    Hypothesis lists each character that a class has: all of Unicode takes it half a minute.
    """
    ends = r"\xA0-\u017F\uD7FF\uE000-\uE00F\uFFF0-\uFFFD\U00010000-\U0001000F\U0010FFF0-\U0010FFFF"
    few = safe_pattern(pattern).text.replace(r"\xA0-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF", ends)
    assert "10FFFF" not in few.replace(ends, "")
    return st.from_regex(few, fullmatch=True)


@pytest.mark.parametrize("name", EVERYDAY_IDS)
def test_everyday_patterns_are_held_to(name: str) -> None:
    pattern, example = EVERYDAY[name]
    safe = safe_pattern(pattern)
    assert re.fullmatch(safe.text, example)
    assert safe.shortest <= len(example) <= safe.longest


@pytest.mark.parametrize("name", EVERYDAY_IDS)
@given(data=st.data())
def test_every_text_that_fits_what_is_sent_on_fits_what_was_asked(name: str, data: st.DataObject) -> None:
    pattern, _ = EVERYDAY[name]
    assert re.search(pattern, data.draw(texts(pattern)), re.ASCII)


@pytest.mark.parametrize("pattern", KNOWN)
@given(data=st.data())
def test_what_stands_in_for_a_known_pattern_is_part_of_it(pattern: str, data: st.DataObject) -> None:
    assert re.search(pattern, data.draw(texts(pattern)), re.ASCII)


@pytest.mark.parametrize("pattern", [*FORMATS.values(), *(pattern for pattern, _ in EVERYDAY.values())])
def test_only_what_the_engine_takes_as_it_is_meant_is_sent_on(pattern: str) -> None:
    member = r"[0-9A-Za-z]|\\x[0-9A-F]{2}|\\u[0-9A-F]{4}|\\U[0-9A-F]{8}"
    one = rf"\[(({member})(-({member}))?)+\]"
    assert re.fullmatch(rf"\^(({one})|[()|*+?]|\{{\d+(,\d*)?\}})*\$", safe_pattern(pattern).text)


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("^(?=.*x).*$", "a group of the kind (?="),
        ("^(?<!a)b$", "a group of the kind (?<"),
        ("^(?i)abc$", "a group of the kind (?i"),
        (r"^(a)\1$", r"has \1"),
        (r"\bword\b", r"has \b"),
        (r"^\p{L}$", r"has \p"),
        ('^"$', "must escape"),
        (r"^\\$", "must escape"),
        ("^\n$", "must escape"),
        ("^(a", "isn't closed"),
        ("^a)$", "where it can't be read"),
        ("^[a", "ends too early"),
        ("^[z-a]$", "a range of characters that isn't one"),
        ("^*$", "where it can't be read"),
        ("^a{3,1}$", "repeats at least 3 and at most 1"),
        ("^a{1001}$", "repeats 1001 characters; at most 1000"),
        ("^((a{30}){30}){30}$", "repeats 27000 characters"),
        ("^(a*)*$", "repeats what may be empty"),
        ("^(a|b?){2,9}$", "repeats what may be empty"),
        ("a" * 1001, "has 1001 characters"),
        ("(" * 30 + "a" + ")" * 30, "nested too deeply"),
        ("\\", "ends too early"),
    ],
)
def test_what_cannot_be_held_to_is_refused_with_its_reason(pattern: str, complaint: str) -> None:
    with pytest.raises(BadPattern) as refused:
        safe_pattern(pattern)
    assert complaint in str(refused.value)


@given(st.text(alphabet='ab^$()[]{}|*+?.\\-,19dwx:=é"') | st.text())
def test_any_text_is_a_pattern_or_refused(pattern: str) -> None:
    try:
        re.compile(safe_pattern(pattern).text)
    except BadPattern as refused:
        assert str(refused)


@pytest.mark.parametrize(
    "pattern", ["^" + "a?" * 17 + "b$", "^" + "a*" * 17 + "$", "^(a?b?c?d?e?)?(a?b?c?d?e?)?(a?b?c?d?e?)?(a?b?c?d?e?)?$"]
)
def test_many_parts_in_a_row_that_may_be_left_out_are_refused(pattern: str) -> None:
    """The engine computes for minutes at some hundreds of them, and goes on when the caller has left."""
    with pytest.raises(BadPattern, match="in a row that may be left out"):
        safe_pattern(pattern)
    assert safe_pattern("^" + "a?b" * 100 + "$").states == 200
