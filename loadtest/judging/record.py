"""What is kept of a release that has passed, for later ones to be compared with: in the message of its signed tag.

The engine's speed depends on how many slots are busy, so times are kept by that. Where this release wasn't measured, at
a load that it hasn't seen, the times of earlier ones stay.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

from loadtest.judging.answers import Answer, Outcome

QUESTIONS = Path(__file__).with_name("questions.json")
KEPT = 40  # times for each number of busy slots
Times = Mapping[int, Sequence[float]]  # seconds by busy slots, in the order of the answers


@dataclass(frozen=True)
class Record:
    """What is known of a release's model.

    shape: of its pods: where it differs, so do the times; "" where it says nothing of them. questions: their hash.
    right: the places of those that it has answered, and never wrongly.
    """

    shape: str
    questions: str
    right: frozenset[int] = frozenset()
    first: Times = field(default_factory=dict)
    token: Times = field(default_factory=dict)

    def times_of(self, shape: str) -> tuple[Times, Times]:
        """Return the times to the first token and of the others, which pods of a shape can be compared with."""
        return (self.first, self.token) if shape and shape == self.shape else ({}, {})

    @classmethod
    def read(cls, said: Any) -> Self:
        """Return what `said()` has written. Raises ValueError, LookupError or TypeError where it isn't of this form."""
        if not isinstance(said["shape"], str) or not isinstance(said["questions"], str):
            raise TypeError("shape and questions must be texts")
        right = frozenset(int(number) for number in said["right"])
        return cls(said["shape"], said["questions"], right, _times(said["first"]), _times(said["token"]))

    def said(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "shape": self.shape,
            "questions": self.questions,
            "right": sorted(self.right),
            "first": _rounded(self.first),
            "token": _rounded(self.token),
        }


Records = Mapping[str, Record]  # of a release, by the names of its models


def new_record(shape: str, answers: Sequence[Answer], timed: Iterable[Answer], live: Record | None) -> Record:
    """Return the record of a release by its answers. timed: those whose times count.

    live: of the one before, for what this one wasn't asked, and for loads at which it wasn't measured.
    """
    right = frozenset(each.question for each in answers if each.outcome is Outcome.RIGHT)
    right |= live.right if live else frozenset()
    right -= {each.question for each in answers if each.outcome is Outcome.WRONG}
    first, token = defaultdict[int, list[float]](list), defaultdict[int, list[float]](list)
    for each in timed:
        if each.busy_slots is not None and each.first is not None:
            first[each.busy_slots].append(each.first)
        if each.busy_slots is not None and each.token is not None:
            token[each.busy_slots].append(each.token)
    earlier = live.times_of(shape) if live else ({}, {})
    return Record(shape, questions_hash(), right, _newest(earlier[0], first), _newest(earlier[1], token))


def read_records(text: str) -> Records:
    """Return the records of a release by model. Raises ValueError where the text isn't what write_records() writes."""
    try:
        return {model: Record.read(said) for model, said in json.loads(text or "{}").items()}
    except (ValueError, LookupError, TypeError, AttributeError) as problem:
        raise ValueError(f"no record of a release: {problem}") from None


def write_records(records: Records) -> str:
    """Return records by model as a line of JSON."""
    return json.dumps({model: record.said() for model, record in records.items()}, separators=(",", ":"))


def read_questions() -> list[dict[str, str]]:
    """Return the questions: what to `ask`, a pattern that is `right`, and an `example` of a right answer."""
    found: list[dict[str, str]] = json.loads(QUESTIONS.read_text())
    return found


@cache
def questions_hash() -> str:
    """Return a hash of the questions: answers to others can't be compared."""
    return hashlib.sha256(QUESTIONS.read_bytes()).hexdigest()[:12]


def _newest(earlier: Times, times: Times) -> dict[int, list[float]]:
    """Return the newest times for each number of busy slots."""
    slots = sorted({*earlier, *times})
    return {each: [*earlier.get(each, ()), *times.get(each, ())][-KEPT:] for each in slots}


def _rounded(times: Times) -> dict[str, list[float]]:
    return {str(slots): [float(f"{each:.3g}") for each in of] for slots, of in times.items()}


def _times(said: Any) -> dict[int, list[float]]:
    return {int(slots): [float(each) for each in of][-KEPT:] for slots, of in said.items()}
