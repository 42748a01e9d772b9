"""What the error for an invalid body says: the field, and what is allowed, in JSON's words instead of pydantic's."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic_core import ErrorDetails

SHOWN = 5  # complaints in one error
LOOKED_AT = 64  # errors, of which some may read the same; to name ten thousand takes half a second
NAME_SHOWN = 64  # characters of a caller's name that an error quotes
ALIKE = 0.75  # similarity of a field's name and its misspelling
Location = tuple[int | str, ...]
# By pydantic's type of error. Its other sentences are used too, as "must be …" instead of "Input should be …".
WORDS = {
    "missing": "is required",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",  # in a union of objects
    "dict_type": "must be a JSON object",
    "list_type": "must be a list",
    "string_type": "must be a text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
}
SUBJECT = re.compile(r"^\w+ should ")


@dataclass(frozen=True)
class Unknown:
    """Replaces the value of a field that an object doesn't have, for the error.

    names: of the object's fields. refused: why a field isn't supported, if there is more to say.
    """

    names: tuple[str, ...]
    refused: Mapping[str, str]


def complaints(document: Any, errors: Sequence[ErrorDetails]) -> str:
    """Return what is wrong with a document, up to five times; of an object with a wrong `type`, only that."""
    mistyped = {error["loc"][:-1] for error in errors if _is_about_type(error)}
    found = dict[str, None]()
    listed = set[tuple[str, ...]]()
    for error in errors[:LOOKED_AT]:
        loc = error["loc"]
        if _is_about_type(error) or not any(loc[:depth] in mistyped for depth in range(len(loc))):
            found[f"{field_name(document, loc)}: {_sentence(error, listed)}"] = None
        if len(found) == SHOWN:
            break
    return "; ".join(found)


def _is_about_type(error: ErrorDetails) -> bool:
    return error["type"] == "literal_error" and error["loc"][-1] == "type"


def _sentence(error: ErrorDetails, listed: set[tuple[str, ...]]) -> str:
    """Return the sentence without its field. listed: the lists of fields in earlier sentences, not to be repeated."""
    kind, message = error["type"], error["msg"]
    if kind == "extra_forbidden":
        return _not_supported(str(error["loc"][-1]), error["input"], listed)
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    if error.get("ctx", {}).get("max_length") == 0:
        return "must be empty"
    if kind == "literal_error":
        message = message.replace("False", "false")
    return WORDS.get(kind) or SUBJECT.sub("must ", message).replace(" after validation", "")


def _not_supported(name: str, unknown: Unknown, listed: set[tuple[str, ...]]) -> str:
    if name in unknown.refused:
        return unknown.refused[name]
    if len(name) <= NAME_SHOWN and (close := get_close_matches(name, unknown.names, 1, ALIKE)):
        return f"is not supported (did you mean {close[0]}?)"
    if unknown.names in listed:
        return "is not supported"
    listed.add(unknown.names)
    return f"is not supported (fields: {', '.join(unknown.names)})"


def field_name(document: Any, loc: Location) -> str:
    """Return a path such as `messages[0].content` for pydantic's location, without the names of union branches.

    A branch may have the same name as a field, such as `text`; it is read as a field if the rest of the path fits.
    """
    names = list(_field_names(document, loc))
    return next((name for sent, name in names if sent), names[0][1]).removeprefix(".") or "body"


def _field_names(document: Any, loc: Location) -> Iterator[tuple[bool, str]]:
    """Yield the possible meanings of a location, and whether such a field was sent."""
    if not loc:
        yield True, ""
        return
    step, rest = loc[0], loc[1:]
    if isinstance(step, int):
        item = document[step] if isinstance(document, list) and step < len(document) else None
        yield from ((sent, f"[{step}]{name}") for sent, name in _field_names(item, rest))
        return
    if isinstance(document, dict) and step in document:
        yield from ((sent, f".{shown(step)}{name}") for sent, name in _field_names(document[step], rest))
    elif isinstance(document, dict) and not rest:
        yield False, f".{shown(step)}"
    if rest:
        yield from _field_names(document, rest)
    else:
        yield False, ""


def shown(name: str) -> str:
    """Return a caller's name, shortened for an error."""
    return name if len(name) <= NAME_SHOWN else f"{name[:NAME_SHOWN]}…"
