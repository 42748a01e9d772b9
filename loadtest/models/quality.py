"""The committed questions, and how many of them a model answers rightly."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.models.checks import is_right
from loadtest.models.ollama_model import OllamaModel
from loadtest.models.pictures import draw
from loadtest.reporting.statistics import wilson

QUESTIONS = Path(__file__).with_name("quality.json")
MAX_TOKENS = 80  # of an answer; every right one is much shorter
KEPT = 120  # characters of an answer in the report
# Which questions a model gets, by what Ollama says it can do; each part is scored apart.
PARTS = {"completion": "text", "vision": "pictures", "embedding": "meaning"}


@dataclass(frozen=True)
class Mark:
    """A question with the answer it got."""

    id: str
    category: str
    right: bool
    answer: str


def read_questions(path: Path = QUESTIONS, *, first: int | None = None) -> list[dict[str, Any]]:
    """Return the questions; first: only so many of each category."""
    found: list[dict[str, Any]] = []
    for question in json.loads(path.read_text())["questions"]:
        if first is None or sum(each["category"] == question["category"] for each in found) < first:
            found.append(question)
    return found


def part_of(category: str) -> str:
    """Return the part that a category counts in."""
    return category if category in PARTS.values() else "text"


def examine(
    model: OllamaModel, capabilities: Sequence[str], questions: Sequence[dict[str, Any]], show: Callable[[str], None]
) -> list[Mark]:
    """Ask what the model can be asked, one at a time. Raises OllamaError."""
    parts = {part for capability, part in PARTS.items() if capability in capabilities}
    asked = [question for question in questions if part_of(question["category"]) in parts]
    marks = []
    for number, question in enumerate(asked, 1):
        marks.append(_mark(model, question))
        show(f"{number} of {len(asked)}, {sum(mark.right for mark in marks)} right")
    return marks


def _mark(model: OllamaModel, question: dict[str, Any]) -> Mark:
    check = question["check"]
    if check["kind"] == "nearest":
        right, answer = _nearest(model, question["prompt"], [check["right"], *check["wrong"]])
    else:
        picture = draw(question["picture"]) if "picture" in question else None
        answer = model.answer(question["prompt"], max_tokens=MAX_TOKENS, picture=picture)
        right = is_right(check, answer)
    return Mark(question["id"], question["category"], right, " ".join(answer.split())[:KEPT])


def _nearest(model: OllamaModel, text: str, others: list[str]) -> tuple[bool, str]:
    """Say whether the first of the others is the nearest in meaning, and which one is."""
    asked, *rest = model.embed([text, *others])
    similar = [cosine(asked, each) for each in rest]
    best = similar.index(max(similar))
    return best == 0, others[best]


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the cosine of the angle between two vectors."""
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b) or 1.0)


def scores(marks: Sequence[Mark]) -> dict[str, dict[str, Any]]:
    """Return for each part that was asked: right, asked, share as [value, low, high], and the same by category."""
    return {part: _score([mark for mark in marks if part_of(mark.category) == part]) for part in _parts(marks)}


def _parts(marks: Sequence[Mark]) -> Iterator[str]:
    return iter(dict.fromkeys(part_of(mark.category) for mark in marks))


def _score(marks: Sequence[Mark]) -> dict[str, Any]:
    right = sum(mark.right for mark in marks)
    categories = dict.fromkeys(mark.category for mark in marks)
    counted = {name: [mark.right for mark in marks if mark.category == name] for name in categories}
    return {
        "right": right,
        "asked": len(marks),
        "share": [round(value, 3) for value in wilson(right, len(marks))],
        "categories": {name: [sum(each), len(each)] for name, each in counted.items()},
    }
