"""Is an answer right? Checks by rule, so that the same answer always gets the same mark."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Mapping[str, Any]
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def is_right(check: Check, answer: str) -> bool:
    """Say whether an answer passes. Raises KeyError for a kind of check that there isn't."""
    return KINDS[check["kind"]](check, answer.strip())


def _exact(check: Check, answer: str) -> bool:
    """Nothing but one of `answers`, whatever its case and the punctuation around it."""
    return _plain(answer) in {_plain(wanted) for wanted in check["answers"]}


def _words(check: Check, answer: str) -> bool:
    """Has one of `any` as whole words, and none of `none`."""
    found = [_has(answer, words) for words in check["any"]]
    return any(found) and not any(_has(answer, words) for words in check.get("none", []))


def _number(check: Check, answer: str) -> bool:
    """Ends on the right number: `12 + 7 = 19` and `The answer is 19.` both do."""
    numbers = NUMBER.findall(answer)
    return bool(numbers) and float(numbers[-1].replace(",", "")) == float(check["value"])


def _json(check: Check, answer: str) -> bool:
    """Has one JSON object, in a code fence or not, that equals `value`; the case of its texts doesn't count."""
    start, end = answer.find("{"), answer.rfind("}")
    try:
        return bool(_folded(json.loads(answer[start : end + 1])) == _folded(check["value"]))
    except ValueError:
        return False


def _regex(check: Check, answer: str) -> bool:
    """Is matched as a whole by `pattern`, whatever its case."""
    return re.fullmatch(check["pattern"], answer, re.IGNORECASE | re.DOTALL) is not None


KINDS: dict[str, Callable[[Check, str], bool]] = {
    "exact": _exact,
    "words": _words,
    "number": _number,
    "json": _json,
    "regex": _regex,
}


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text.casefold()).strip(" .,!?:;\"'`*")


def _has(answer: str, words: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", answer, re.IGNORECASE) is not None


def _folded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _folded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_folded(each) for each in value]
    return value.casefold().strip() if isinstance(value, str) else value
