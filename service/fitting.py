"""Answers that must fit a JSON schema, or call a tool: checked, and made again within the deadline until they do.

The engine's grammar holds an answer to as much of a schema as it can (see schemas.py); what it can't is checked here.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service import fit_checker
from service.errors import InvalidRequest, Unfit
from service.schemas import Grammar

if TYPE_CHECKING:
    from service.gateway import Answer

Message = dict[str, Any]
TRIES = 3
ONE_CHECK = threading.Lock()  # at a time, each of which may take the memory that fit_checker.py allows
TOO_HARD = "takes too long to check"
CALL = "Call one of these tools. Answer with its name and its arguments, as JSON:"


@dataclass(frozen=True)
class Schema:
    """A schema as its caller sent it, at `field`, and what of it the engine's grammar holds."""

    field: str
    whole: Any
    grammar: Grammar

    def check(self) -> None:
        """Refuse what is no JSON schema; raises InvalidRequest."""
        if not self.grammar.exact and (found := _complaint(self.whole, [])):
            raise InvalidRequest(f"{self.field}: {found}")

    def misses(self, value: Any) -> str:
        """Return what of the schema a value doesn't fit, "" if it does."""
        return "" if self.grammar.exact else _complaint(self.whole, [value])


def _complaint(schema: Any, values: list[Any]) -> str:
    command = [sys.executable, "-I", fit_checker.__file__]
    asked = json.dumps({"schema": schema, "values": values}).encode()
    with ONE_CHECK:
        done = subprocess.run(command, input=asked, capture_output=True, check=False)
    return str(json.loads(done.stdout)) if done.returncode == 0 else TOO_HARD


@dataclass(frozen=True)
class FittingText:
    """Holds the text of an answer to a schema."""

    schema: Schema

    def __call__(self, answer: "Answer", _messages: Iterable[Message]) -> Iterator[Message]:
        """Yield the messages of an answer that fits, the first, second or third that the model gives."""
        for left in reversed(range(TRIES)):
            messages = answer.read()
            text = joined(messages)
            if answer.cut or not (missed := self.schema.misses(_parsed(text))):
                yield from messages
                return
            if not left:
                raise Unfit(f"{self.schema.field}: the model gave no answer that fits in {TRIES} tries: it {missed}")
            answer.again(corrected(text, missed))


@dataclass(frozen=True)
class CallableTool:
    """A tool by name, its description, and the schema of its arguments."""

    name: str
    description: str | None
    arguments: Schema

    def call(self) -> dict[str, Any]:
        """Return the schema of a call, as the grammar has it, but for its definitions."""
        inner = {key: value for key, value in self.arguments.grammar.schema.items() if key != "$defs"}
        properties = {"name": {"enum": [self.name]}, "arguments": inner}
        required = ["name", "arguments"]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


@dataclass(frozen=True)
class ForcedCall:
    """Makes the answer one call of one of the tools: by a grammar, whatever the model's template knows of tools."""

    tools: tuple[CallableTool, ...]

    @property
    def form(self) -> dict[str, Any]:
        """Return Ollama's `format`."""
        calls = [tool.call() for tool in self.tools]
        definitions: dict[str, Any] = {}
        for tool in self.tools:
            definitions |= tool.arguments.grammar.schema.get("$defs", {})
        schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
        return {**schema, "$defs": definitions} if definitions else schema

    def told(self, messages: list[Message]) -> list[Message]:
        """Return the conversation with what the model must know of the tools, in a system message."""
        told = [{"name": t.name, "description": t.description, "parameters": t.arguments.whole} for t in self.tools]
        text = "\n".join([CALL, *(json.dumps(tool) for tool in told)])
        if messages and messages[0]["role"] == "system":
            first = {**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}
            return [first, *messages[1:]]
        return [{"role": "system", "content": text}, *messages]

    def __call__(self, answer: "Answer", _messages: Iterable[Message]) -> Iterator[Message]:
        """Yield one message with the call; a call that is cut off by `max_tokens` is text."""
        named = {tool.name: tool for tool in self.tools}
        for left in reversed(range(TRIES)):
            messages = answer.read()
            text = joined(messages)
            if answer.cut:
                yield from messages
                return
            call = _parsed(text)
            tool = named.get(call.get("name", "")) if isinstance(call, dict) else None
            missed = tool.arguments.misses(call["arguments"]) if tool else "is no call of a tool"
            if not missed:
                thoughts = "".join(message.get("thinking", "") for message in messages)
                said = {"role": "assistant", "content": "", **({"thinking": thoughts} if thoughts else {})}
                yield {**said, "tool_calls": [{"function": call}]}
                return
            if not left:
                field = tool.arguments.field if tool else "tools"
                raise Unfit(f"{field}: the model gave no call that fits in {TRIES} tries: it {missed}")
            answer.again(corrected(text, missed))


@dataclass(frozen=True)
class FreeCalls:
    """Lets the model call tools as it likes, holds the arguments of strict ones to their schemas.

    several: whether an answer may have more than one call.
    """

    strict: tuple[CallableTool, ...]
    several: bool

    def __call__(self, answer: "Answer", messages: Iterable[Message]) -> Iterator[Message]:
        """Yield the messages as they come; a call that doesn't fit is made again, and is the last one then."""
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
                if tool and (missed := _complaint(tool.arguments.whole, [arguments])):
                    if kept:
                        yield {**message, "tool_calls": kept}
                    yield from self._once_more(answer, tool, call["function"], missed)
                    return
                kept.append(call)
            called = True
            if kept:
                yield {**message, "tool_calls": kept}

    def _once_more(self, answer: "Answer", tool: CallableTool, call: Any, missed: str) -> Iterator[Message]:
        forced = ForcedCall((tool,))
        options = {**answer.call.payload["options"], "stop": []}  # as in question.py, where a grammar forces the answer
        answer.again(corrected(json.dumps(call), missed), format=forced.form, tools=None, options=options)
        yield from forced(answer, ())


def joined(messages: Iterable[Message]) -> str:
    """Return the text of an answer."""
    return "".join(message["content"] for message in messages)


def corrected(text: str, missed: str) -> list[Message]:
    """Return the turns that tell the model what was wrong with its answer."""
    complaint = f"That answer {missed}. Answer again, with JSON that fits."
    return [{"role": "assistant", "content": text}, {"role": "user", "content": complaint}]


def _parsed(text: str) -> Any:
    """Return the JSON in an answer; text that is none is itself, which fits hardly any schema."""
    try:
        return json.loads(text)
    except ValueError:
        return text
