"""JSON from callers: read by one parser, whose cost is bounded before it starts.

A value of two bytes in the text takes some hundred bytes once it is parsed. So the text is measured first, by passes
that run in C: the number of values, their depth, the number of escapes. What reaches the parser is either small or
consists of a few long strings, such as images.
"""

import sys
from typing import Any

from pydantic_core import from_json

from service.errors import InvalidRequest

MAX_VALUES = 10_000  # in all lists and objects together
MAX_DEPTH = 64
MAX_ESCAPES = 1 << 20  # PHP escapes every slash, one in 64 characters of base64: 131,072 in 8 MiB
MAX_NAMES = 1 << 20  # characters of all names together: errors repeat the names of unknown fields
MAX_NUMBER = sys.float_info.max  # most parsers read larger ones as infinity
NESTING = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_json(data: bytes, field: str = "body") -> Any:
    """Return the document in `data`: UTF-8, no duplicate names, finite numbers, bounded in depth and values.

    Raises InvalidRequest, which names `field`.
    """
    data = data.removeprefix(BYTE_ORDER_MARK)
    count = _measure(data, field)
    try:
        document = from_json(data, allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        raise InvalidRequest(f"{field}: is not valid JSON: {error}") from None
    names = list[str]()
    _check(document, field, names)
    if len(names) != count:
        raise InvalidRequest(f"{field}: an object has the same name twice")
    if sum(map(len, names)) > MAX_NAMES:
        raise InvalidRequest(f"{field}: its names have more than {MAX_NAMES} characters in all")
    return document


def _measure(data: bytes, field: str) -> int:
    """Refuse what would be too large once parsed; return how many names the objects have."""
    if b"\\" in data:
        if data.count(b"\\") > MAX_ESCAPES:
            raise InvalidRequest(f"{field}: more than {MAX_ESCAPES} escaped characters", hint="send them as UTF-8")
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")  # so that every quote left begins or ends a string
    too_many = InvalidRequest(f"{field}: more than {MAX_VALUES} values; at most that many are allowed")
    if data.count(b'"') > 4 * MAX_VALUES:  # two for a name, two for its value
        raise too_many
    structure = b"".join(data.split(b'"')[::2])
    if structure.count(b",") + structure.count(b"[") + structure.count(b"{") > MAX_VALUES:
        raise too_many
    depth = 0
    for step in filter(None, map(NESTING.get, structure.translate(None, _ALL_BUT_BRACKETS))):
        depth += step
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"{field}: is nested too deeply; at most {MAX_DEPTH} levels are allowed")
    return structure.count(b":")


_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(NESTING))


def _check(value: Any, field: str, names: list[str]) -> None:
    """Add the names of a document's objects to `names`; refuse numbers that are not finite for everybody."""
    if isinstance(value, dict):
        names += value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _check(item, field, names)
    elif isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:  # true for NaN as well
        raise InvalidRequest(f"{field}: a number is too large; at most {MAX_NUMBER} is allowed")


def write_size(value: Any) -> int:
    """Return a lower bound of the characters that a document takes as JSON, names included."""
    if isinstance(value, dict):
        return 2 + sum(len(name) + 4 + write_size(item) for name, item in value.items())
    if isinstance(value, list):
        return 2 + sum(1 + write_size(item) for item in value)
    return 2 + len(value) if isinstance(value, str) else len(str(value))
