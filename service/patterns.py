"""Regular expressions of JSON schemas, rewritten in the few forms that the engine's grammar handles correctly.

llama.cpp's converter rejects `\\d`, ignores look-ahead, lets `.` match the quote that ends a string, and unrolls every
repetition. So a pattern is parsed here, and rewritten with character classes, groups and repetitions.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from service.known_patterns import KNOWN

MAX_LENGTH = 1000  # characters; zod's pattern for IPv6 has 700
# Consecutive optional parts: for each of them, the engine tracks everything that could follow.
MAX_SKIPPED = 16
MAX_STATES = 1000  # characters of the longest text, counting each unbounded repetition once

Range: TypeAlias = tuple[int, int]
# What a JSON string can contain unescaped: no quote, backslash, control characters or surrogates.
PLAIN: list[Range] = [(0x20, 0x21), (0x23, 0x5B), (0x5D, 0x7E), (0xA0, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFF)]
DIGIT: list[Range] = [(0x30, 0x39)]
WORD: list[Range] = [*DIGIT, (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)]
SPACE: list[Range] = [(0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x2028, 0x2029), (0x3000, 0x3000), (0xFEFF, 0xFEFF)]
CLASSES = {"d": DIGIT, "w": WORD, "s": SPACE}
CONTROL = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
REPEAT = re.compile(r"\{(\d{1,6})(,(\d{0,6}))?\}")


class BadPattern(ValueError):
    """A pattern that the grammar can't enforce; the message says why."""


@dataclass(frozen=True)
class Pattern:
    """A pattern in the engine's form, its cost in states, and the lengths of the matching texts."""

    text: str
    states: int
    shortest: int
    longest: float


def safe_pattern(pattern: str) -> Pattern:
    """Return the pattern in the engine's form; raises BadPattern."""
    if len(pattern) > MAX_LENGTH:
        raise BadPattern(f"has {len(pattern)} characters; at most {MAX_LENGTH} are allowed")
    whole = _Reader(KNOWN.get(pattern, pattern)).whole()
    if whole.states > MAX_STATES:
        raise BadPattern(f"repeats {whole.states} characters; at most {MAX_STATES} are allowed")
    return Pattern(f"^{whole.text}$", whole.states, whole.shortest, whole.longest)


@dataclass(frozen=True)
class _Part:
    """A rewritten part of a pattern. `single`: a quantifier after it applies to all of it."""

    text: str
    states: int = 0
    shortest: int = 0
    longest: float = 0
    single: bool = False
    skipped: tuple[int, int, int] = (0, 0, 0)  # consecutive optional parts: at its start, at its end, at most


def _in_a_row(parts: Iterable[_Part]) -> _Part:
    """Return the parts as one, in linear time: their texts are joined once."""
    texts: list[str] = []
    states, shortest, longest, lead, tail, most = 0, 0, 0.0, 0, 0, 0
    for part in parts:
        next_lead, next_tail, next_most = part.skipped
        most = max(most, next_most, tail + next_lead)
        if most > MAX_SKIPPED:
            raise BadPattern(f"has more than {MAX_SKIPPED} parts in a row that may be left out")
        lead, tail = lead if shortest else lead + next_lead, next_tail if part.shortest else tail + next_tail
        states, shortest, longest = states + part.states, shortest + part.shortest, longest + part.longest
        texts.append(part.text)
    return _Part("".join(texts), states, shortest, longest, skipped=(lead, tail, most))


def _times(part: _Part, low: int, high: float) -> _Part:
    if high < low:
        raise BadPattern(f"repeats at least {low} and at most {high:.0f} times")
    if not high or not part.longest:
        return _Part("")
    if not part.shortest and high > 1:
        raise BadPattern("repeats what may be empty")
    marks = {(0, 1): "?", (0, float("inf")): "*", (1, float("inf")): "+", (1, 1): ""}
    until = "" if high == float("inf") else f"{high:.0f}"
    mark = marks.get((low, high), f"{{{low}}}" if low == high else f"{{{low},{until}}}")
    count = int(high) if until else low + 1
    text = (part.text if part.single else f"({part.text})") + mark
    lead, tail, most = part.skipped
    most = max(most, tail + lead if high > 1 else 0)
    skipped = (lead, tail, most) if low else (most + 1,) * 3
    return _Part(text, part.states * count, part.shortest * low, part.longest * high, not mark, skipped)


class _Reader:
    """Reads a pattern once, from its start to its end."""

    def __init__(self, pattern: str) -> None:
        self._text, self._at, self._depth = pattern, 0, 0

    def whole(self) -> _Part:
        """Return the whole pattern, with any text before and after it where it isn't anchored."""
        branches = []
        more = True
        while more:
            begins = self._take("^")
            branch = self._sequence()
            ends = self._take("$")
            around = _times(_class(PLAIN), 0, float("inf"))
            branches.append(_in_a_row([*([] if begins else [around]), branch, *([] if ends else [around])]))
            more = self._take("|")
        if self._at < len(self._text):
            raise BadPattern(f"has {self._text[self._at]!r} where it can't be read")
        return _either(branches)

    def _take(self, text: str) -> bool:
        taken = self._text.startswith(text, self._at)
        self._at += len(text) * taken
        return taken

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise BadPattern("ends too early")
        self._at += 1
        return self._text[self._at - 1]

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _alternatives(self) -> _Part:
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        return _either(branches)

    def _sequence(self) -> _Part:
        parts: list[_Part] = []
        while (char := self._peek()) and char not in "|)$":
            parts.append(self._quantified(self._atom()))
        return _in_a_row(parts)

    def _atom(self) -> _Part:
        char = self._next()
        if char == "(":
            return self._group()
        if char == "[":
            return _class(self._in_brackets())
        if char == "\\":
            return _class(self._escape())
        if char == ".":
            return _class(PLAIN)
        if char in "*+?{^":
            raise BadPattern(f"has {char!r} where it can't be read")
        return _class([(ord(char), ord(char))])

    def _group(self) -> _Part:
        if self._peek() == "?" and not self._take("?:"):
            raise BadPattern(f"has a group of the kind ({self._text[self._at : self._at + 2]}, which can't be held to")
        self._depth += 1
        if self._depth > 20:
            raise BadPattern("is nested too deeply")
        part = self._alternatives()
        self._depth -= 1
        if not self._take(")"):
            raise BadPattern("has a group that isn't closed, or an anchor in a group")
        return part

    def _quantified(self, part: _Part) -> _Part:
        char, bounds = self._peek(), REPEAT.match(self._text, self._at)
        if bounds:
            low = int(bounds[1])
            high = low if not bounds[2] else float(bounds[3] or "inf")
            self._at = bounds.end()
        elif char and char in "*+?":
            low, high = {"*": (0, float("inf")), "+": (1, float("inf")), "?": (0, 1.0)}[self._next()]
        else:
            return part
        self._take("?")  # lazy or greedy, the same texts match
        return _times(part, low, high)

    def _in_brackets(self) -> list[Range]:
        negated = self._take("^")
        ranges: list[Range] = []
        while not self._take("]"):
            first = self._member()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                last = self._member()
                (low, _), (_, high) = first[0], last[-1]
                if len(first) > 1 or len(last) > 1 or low > high:
                    raise BadPattern("has a range of characters that isn't one")
                first = [(low, high)]
            ranges += first
        return _complement(ranges) if negated else ranges

    def _member(self) -> list[Range]:
        char = self._next()
        return self._escape() if char == "\\" else [(ord(char), ord(char))]

    def _escape(self) -> list[Range]:
        char = self._next()
        if char.lower() in CLASSES:
            return CLASSES[char] if char.islower() else _complement(CLASSES[char.lower()])
        if char in CONTROL:
            return [(CONTROL[char], CONTROL[char])]
        if char in "xu":
            digits = re.compile(r"[0-9a-fA-F]{2}" if char == "x" else r"[0-9a-fA-F]{4}").match(self._text, self._at)
            if not digits:
                raise BadPattern(f"has \\{char} without its digits")
            self._at = digits.end()
            return [(int(digits[0], 16), int(digits[0], 16))]
        if char.isalnum():
            raise BadPattern(f"has \\{char}, which can't be held to")
        return [(ord(char), ord(char))]


def _either(branches: list[_Part]) -> _Part:
    filled = [branch for branch in branches if branch.text]
    if not filled:
        return _Part("")
    if len(branches) == 1:
        return branches[0]
    shortest, longest = min(branch.shortest for branch in branches), max(branch.longest for branch in branches)
    text = "(" + "|".join(branch.text for branch in filled) + ")" + ("?" if len(filled) < len(branches) else "")
    lead, tail, most = (sum(branch.skipped[i] for branch in filled) for i in range(3))
    states, single = sum(branch.states for branch in filled), not text.endswith("?")
    return _Part(text, states, shortest, longest, single, (lead, tail, most) if single else (most + 1,) * 3)


def _complement(ranges: list[Range]) -> list[Range]:
    result, begin = [], 0
    for low, high in sorted(ranges):
        if low > begin:
            result.append((begin, low - 1))
        begin = max(begin, high + 1)
    return [*result, (begin, 0x10FFFF)]


def _class(ranges: list[Range]) -> _Part:
    """Return the class of those characters that a JSON string can contain unescaped."""
    return _unescaped(tuple(ranges))


@lru_cache(maxsize=32)
def _unescaped(ranges: tuple[Range, ...]) -> _Part:
    kept = sorted((max(a, low), min(b, high)) for a, b in ranges for low, high in PLAIN if a <= high and b >= low)
    if not kept:
        raise BadPattern("needs a character that a JSON string must escape")
    members = (_char(low) if low == high else f"{_char(low)}-{_char(high)}" for low, high in kept)
    return _Part(f"[{''.join(members)}]", 1, 1, 1, single=True)


def _char(code: int) -> str:
    if code < 0x80 and chr(code).isalnum():
        return chr(code)
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
