"""Answers that must fit a JSON schema, or call a tool: checked, and regenerated within the deadline until they do.

The engine's grammar enforces as much of a schema as it can (see schemas.py); the rest is checked here.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.answer_json import NO_JSON, is_flat, read_answer
from service.errors import InvalidRequest, Saturated, Unfit
from service.fit_checks import complaints
from service.schemas import ANY, Grammar
from service.settings import CHECKING_THREADS

if TYPE_CHECKING:
    from service.generation import Generation

Message = dict[str, Any]
TRIES = 3
CALL_COST = 14  # rules of a grammar
OBJECT = {"type": "object"}
CALL = "Call one of these tools. Answer with its name and its arguments, as JSON:"


@dataclass(frozen=True)
class Schema:
    """A schema as its caller sent it, at `field`, and the part of it that the engine's grammar enforces."""

    field: str
    whole: Any
    grammar: Grammar

    def misses(self, value: Any) -> str:
        """Return how a value violates the schema, "" if it doesn't; raises InvalidRequest."""
        return "" if self.grammar.exact else self.misses_all(value)

    def misses_all(self, value: Any) -> str:
        """Return the same for a value that no grammar has constrained."""
        if not is_flat(value):
            return NO_JSON
        [complaint] = complaints([(self.whole, [value])], self.field)
        return complaint


class Places:
    """The places of requests whose schemas are checked, or wait for that; a key may take half of them."""

    def __init__(self, count: int) -> None:
        self._count, self._lock, self._taken = count, threading.Lock(), Counter[str | None]()

    @contextmanager
    def take(self, key: str | None) -> Iterator[None]:
        """Have a place until the block ends; raises Saturated. key: its name, None where there are no keys."""
        with self._lock:
            most = self._count if key is None else max(1, self._count // 2)
            if self._taken.total() >= self._count or self._taken[key] >= most:
                raise Saturated("too many schemas come in at once", hint="see Retry-After", retry_after=1)
            self._taken[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[key] -= 1
                self._taken += Counter()  # drops zero counts


PLACES = Places(CHECKING_THREADS)


def check_schemas(schemas: Iterable[Schema], key: str | None) -> None:
    """Refuse schemas that aren't valid; raises InvalidRequest, or Saturated if too many wait for this.

    key: whose they are, by its name.
    """
    inexact = [schema for schema in schemas if not schema.grammar.exact]
    if not inexact:
        return
    with PLACES.take(key):
        found = complaints([(schema.whole, []) for schema in inexact], inexact[0].field)
    for schema, complaint in zip(inexact, found, strict=True):
        if complaint:
            raise InvalidRequest(f"{schema.field}: {complaint}")


@dataclass(frozen=True)
class FittingText:
    """Makes the text of an answer fit a schema; an answer that calls tools instead passes through `calls`."""

    schema: Schema
    calls: "FreeCalls | None" = None

    def __call__(self, answer: "Generation", _messages: Iterable[Message]) -> Iterator[Message]:
        """Yield the messages of the first of up to TRIES answers that fits."""

        def read() -> list[Message]:
            return list(self.calls(answer, answer.read())) if self.calls else answer.read()

        yield from _fitting(answer, read, self._judged, self.schema.field, "answer")

    def _judged(self, messages: list[Message]) -> tuple[list[Message], str]:
        if any(message.get("tool_calls") for message in messages):
            return messages, ""
        try:
            return messages, self.schema.misses(read_answer(joined(messages)))
        except ValueError:
            return messages, NO_JSON


@dataclass(frozen=True)
class CallableTool:
    """A tool by name, its description, and the schema of its arguments."""

    name: str
    description: str | None
    arguments: Schema

    def call(self) -> dict[str, Any]:
        """Return the grammar's schema of a call, without its definitions."""
        inner = {key: value for key, value in self.arguments.grammar.schema.items() if key != "$defs"}
        return _call({"enum": [self.name]}, OBJECT if inner == ANY else inner)


def _call(name: Message, arguments: Message) -> dict[str, Any]:
    properties, required = {"name": name, "arguments": arguments}, ["name", "arguments"]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def call_cost(name: str) -> int:
    """Return how much the call of a tool adds to a grammar, without its arguments (see grammar_budget.py)."""
    return CALL_COST + len(name) // 8


@dataclass(frozen=True)
class ForcedCall:
    """Makes the answer a single call of one of the tools, by a grammar, even if the model's template has no tools.

    listed: whether the grammar names the tools; otherwise it enforces no schema of theirs, and none may be exact.
    """

    tools: tuple[CallableTool, ...]
    listed: bool = True

    @property
    def form(self) -> dict[str, Any]:
        """Return Ollama's `format`."""
        if not self.listed:
            return _call({"type": "string"}, OBJECT)
        calls = [tool.call() for tool in self.tools]
        definitions: dict[str, Any] = {}
        for tool in self.tools:
            definitions |= tool.arguments.grammar.schema.get("$defs", {})
        schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
        return {**schema, "$defs": definitions} if definitions else schema

    def told(self, messages: list[Message]) -> list[Message]:
        """Return the conversation with a system message that describes the tools."""
        told = [{"name": t.name, "description": t.description, "parameters": t.arguments.whole} for t in self.tools]
        text = "\n".join([CALL, *(json.dumps(tool, ensure_ascii=False) for tool in told)])
        if messages and messages[0]["role"] == "system":
            first = {**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}
            return [first, *messages[1:]]
        return [{"role": "system", "content": text}, *messages]

    def __call__(self, answer: "Generation", _messages: Iterable[Message]) -> Iterator[Message]:
        """Yield one message with the call; a call that `max_tokens` cuts off stays text."""
        yield from _fitting(answer, answer.read, self._judged, self.field, "call")

    @property
    def field(self) -> str:
        """Return the field that an error names: the schema of the only tool, or all tools."""
        return self.tools[0].arguments.field if len(self.tools) == 1 else "tools"

    def _judged(self, messages: list[Message]) -> tuple[list[Message], str]:
        """Return an answer's call as a message, and what is wrong with it."""
        try:
            call = read_answer(joined(messages))
        except ValueError:
            return [], NO_JSON
        name, arguments = (call.get("name"), call.get("arguments")) if isinstance(call, dict) else (None, None)
        tool = next((tool for tool in self.tools if tool.name == name), None)
        if tool is None or not isinstance(arguments, dict):
            return [], "is no call of a tool"
        thoughts = joined(messages, "thinking")
        said = {"role": "assistant", "content": "", **({"thinking": thoughts} if thoughts else {})}
        return [{**said, "tool_calls": [{"function": call}]}], tool.arguments.misses(arguments)


@dataclass(frozen=True)
class FreeCalls:
    """Lets the model call tools freely, and makes the arguments of strict ones fit their schemas.

    several: whether an answer may have more than one call.
    """

    strict: tuple[CallableTool, ...]
    several: bool

    def __call__(self, answer: "Generation", messages: Iterable[Message]) -> Iterator[Message]:
        """Yield the messages as they come; a call that doesn't fit is regenerated, and becomes the last one."""
        strict = {tool.name: tool for tool in self.strict}
        called = False
        for message in messages:
            calls = message.get("tool_calls")
            if not calls:
                yield message
                continue
            kept: list[Any] = []
            for call in calls if self.several else calls[: not called]:
                name, arguments = call["function"]["name"], call["function"]["arguments"]
                tool = strict.get(name)
                if tool and (missed := tool.arguments.misses_all(arguments)):
                    if kept:
                        yield {**message, "tool_calls": kept}
                    yield from self._once_more(answer, tool, call["function"], missed)
                    return
                kept.append(call)
            called = True
            if kept:
                yield {**message, "tool_calls": kept}

    def _once_more(self, answer: "Generation", tool: CallableTool, call: Any, missed: str) -> Iterator[Message]:
        forced = ForcedCall((tool,))
        options = {**answer.call.payload["options"], "stop": []}  # see Question.for_ollama()
        said = json.dumps(call, ensure_ascii=False) if is_flat(call) else ""
        answer.again(corrected(said, missed), format=forced.form, tools=None, options=options)
        yield from forced(answer, ())


def _fitting(
    answer: "Generation",
    read: Callable[[], list[Message]],
    judged: Callable[[list[Message]], tuple[list[Message], str]],
    field: str,
    what: str,
) -> list[Message]:
    """Return the model's first answer that fits; one that is cut off at its limit is returned as it is.

    read: returns all messages of an answer. judged: returns what callers get of them, and what is wrong with them.
    Raises Unfit, which names `field` and `what` was wanted.
    """
    missed = ""
    for left in reversed(range(TRIES)):
        messages = read()
        if answer.cut:
            return messages
        fitting, missed = judged(messages)
        if not missed:
            return fitting
        if left:
            answer.again(corrected(joined(messages), missed))
    raise Unfit(f"{field}: the model gave no {what} that fits in {TRIES} tries: it {missed}")


def joined(messages: Iterable[Message], part: str = "content") -> str:
    """Return the text of an answer, or its thoughts if `part` is `thinking`."""
    return "".join(message.get(part, "") for message in messages)


def corrected(text: str, missed: str) -> list[Message]:
    """Return the messages that tell the model what was wrong with its answer."""
    complaint = f"That answer {missed}. Answer again, with JSON that fits."
    return [{"role": "assistant", "content": text}, {"role": "user", "content": complaint}]
