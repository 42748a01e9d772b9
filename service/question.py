"""A question to the model: what the bodies of all dialects become, checked here and written for Ollama."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic.config import JsonDict

from service.complaints import shown
from service.errors import InvalidRequest
from service.fitting import CallableTool, FittingText, ForcedCall, FreeCalls, Schema, call_cost, check_schemas
from service.gateway import Caller, Gateway
from service.generation import Fit, Generation, generate
from service.grammar_budget import Budget
from service.json_input import read_json, write_size
from service.ollama import THINKS, TOOLS
from service.parsing import check_images, check_size, drop_none
from service.schemas import safe_schema
from service.tool_schemas import check_parameters

MAX_MESSAGES, MAX_TOOLS, MAX_TOOL_CALLS = 1024, 128, 128  # in a conversation, of its tools, of calls in one message
SPOKEN: JsonDict = {"description": "At least one of them must say something."}  # of messages, in JSON Schema
NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}
Role = Literal["system", "user", "assistant", "tool"]


@dataclass
class Called:
    """A call that the model made earlier in the conversation. `arguments`: an object, or its JSON text.

    field: its path in the request, as in all classes here; name_field, arguments_field: paths within it.
    """

    field: str
    name: str
    arguments: str | dict[str, Any]
    id: str | None = None
    name_field: str = "function.name"
    arguments_field: str = "function.arguments"

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield the characters that are sent on, by field."""
        text = self.arguments
        yield f"{self.field}.id", len(self.id or "")
        yield f"{self.field}.{self.name_field}", len(self.name)
        yield f"{self.field}.{self.arguments_field}", len(text) if isinstance(text, str) else write_size(text)

    def for_ollama(self) -> dict[str, Any]:
        """Return the call in Ollama's form; raises InvalidRequest."""
        where, arguments = f"{self.field}.{self.arguments_field}", self.arguments
        if isinstance(arguments, str):
            arguments = read_json(arguments.encode(), where) if arguments.strip() else {}
            if not isinstance(arguments, dict):
                raise InvalidRequest(f"{where}: must be a JSON object, as text")
        return {**drop_none(id=self.id), "function": {"name": self.name, "arguments": arguments}}


@dataclass
class Turn:
    """A message of the conversation. `images`: as sent, by field; emptied once they are decoded.

    texts: the pieces of its text, joined only once their sizes are checked, because a copy of 8 MiB with one emoji
    takes 32 MiB. text_field: the text's path in the request, if it isn't the message's `content`; id_field: the name
    of call_id in it.
    """

    field: str
    role: Role
    texts: list[str] = dataclasses.field(default_factory=list)
    images: dict[str, str] = dataclasses.field(default_factory=dict)
    calls: list[Called] = dataclasses.field(default_factory=list)
    call_id: str | None = None  # of a tool's message: the call that it answers
    tool: str | None = None  # and the name of the tool
    text_field: str = ""
    id_field: str = "tool_call_id"

    def __post_init__(self) -> None:
        self.texts = [text for text in self.texts if text]

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield the characters that are sent on, by field."""
        yield self.content_field, sum(map(len, self.texts))
        yield f"{self.field}.{self.id_field}", len(self.call_id or "")
        yield f"{self.field}.name", len(self.tool or "")
        for call in self.calls:
            yield from call.sizes()

    @property
    def content_field(self) -> str:
        """Return the field of its texts."""
        return self.text_field or f"{self.field}.content"

    @property
    def says_something(self) -> bool:
        """Say whether it isn't empty; a tool's result may be."""
        return bool(self.images or self.calls or self.role == "tool" or any(map(str.strip, self.texts)))

    def extend(self, other: "Turn", separator: str) -> None:
        """Append the texts, images and calls of another turn, as if both were one message."""
        self.texts += [separator, *other.texts] if self.texts and other.texts else other.texts
        self.images |= other.images
        self.calls += other.calls

    def for_ollama(self) -> dict[str, Any]:
        """Return the message in Ollama's form, without its images; raises InvalidRequest."""
        calls = [call.for_ollama() for call in self.calls]
        optional = drop_none(tool_calls=calls or None, tool_call_id=self.call_id, tool_name=self.tool)
        return {"role": self.role, "content": "".join(self.texts), **optional}


def system_turns(text: str | None, field: str = "system") -> list[Turn]:
    """Return the system message as a turn, for dialects where it is a field of its own."""
    return [Turn(field, "system", [text], text_field=field)] if text else []


@dataclass(frozen=True)
class Tool:
    """A tool that the model may call. `parameters`: a JSON schema, which `strict` enforces for the arguments.

    schema_field: the name of that schema in the request's tool.
    """

    field: str
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool = False
    schema_field: str = "parameters"

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield the characters that are sent on, by field."""
        yield f"{self.field}.name", len(self.name)
        yield f"{self.field}.description", len(self.description or "")
        yield f"{self.field}.{self.schema_field}", write_size(self.parameters or {})

    def for_ollama(self) -> dict[str, Any]:
        """Return the tool in Ollama's form; raises InvalidRequest."""
        if self.parameters:
            check_parameters(f"{self.field}.{self.schema_field}", self.parameters)
        function = drop_none(description=self.description, parameters=self.parameters)
        return {"type": "function", "function": {"name": self.name, **function}}

    def callable(self, budget: Budget, prefix: str = "") -> CallableTool:
        """Return the tool for a grammar; prefix: of its definitions' names."""
        schema = held(f"{self.field}.{self.schema_field}", self.parameters or NO_PARAMETERS, budget, prefix)
        return CallableTool(self.name, self.description, schema)


def held(field: str, schema: Any, budget: Budget, prefix: str = "") -> Schema:
    """Return a schema with the part that the engine's grammar enforces; raises InvalidRequest."""
    return Schema(field, schema, safe_schema(field, schema, budget, prefix))


@dataclass(frozen=True)
class Form:
    """The required form of the answer: any JSON, or JSON that fits `schema`."""

    field: str
    schema: Any = None


@dataclass
class Question:
    """A conversation, and how the model shall continue it.

    said: the name of the turns' list in the request. options: for sampling, with Ollama's names. stop_field: the
    request's name for stop words. max_tokens: capped at MAX_TOKENS. choice: whether a tool must be called; named: which
    one; choice_field: the request's name for both, empty if it has none. think: in Ollama's form; if the model can't,
    the error names `think_field`, and without that the model just answers. stream_usage: whether a stream ends with
    the token usage.
    """

    turns: list[Turn]
    said: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    stop_field: str = "stop"
    model: str | None = None
    max_tokens: int | None = None
    tools: list[Tool] = dataclasses.field(default_factory=list)
    choice: Literal["auto", "none", "required"] = "auto"
    named: str | None = None
    choice_field: str = "tool_choice"
    several: bool = True  # tool calls in one answer
    form: Form | None = None
    think: bool | str = False
    think_field: str = ""
    stream: bool = False
    stream_usage: bool = False

    def ask(self, gateway: Gateway, caller: Caller, *, fitting: bool = True) -> Generation:
        """Have the model continue the conversation; returns and raises as generate() does.

        fitting: whether the answer is regenerated until it fits.
        """
        images = [field for turn in self.turns for field in turn.images]
        chat, options, fit = self.for_ollama(gateway, caller)
        try:
            return generate(gateway, caller, chat, options, fit if fitting else None)
        except InvalidRequest as error:
            error.rename(self._names(images, fit))
            raise

    def _names(self, images: list[str], fit: Fit | None) -> dict[str, str]:
        """Return the request's names of the fields in the engine's errors; images: the fields of all images."""
        names = {"messages": self.said}
        if isinstance(fit, ForcedCall):
            names["format"] = fit.field
        elif self.form:
            names["format"] = self.form.field
        if len(images) == 1:
            names["images"] = images[0]
        return names

    def for_ollama(
        self, gateway: Gateway, caller: Caller | None = None
    ) -> tuple[dict[str, Any], dict[str, Any], Fit | None]:
        """Return the chat and options for Ollama, and what makes its answer fit.

        Raises a ServiceError if the settings or the model don't allow it.
        """
        settings = gateway.settings
        check_size(self._sizes(), settings)
        self._check_names()
        limit = min(self.max_tokens or settings.max_tokens, settings.max_tokens)  # where the answer ends with `length`
        options = {"num_predict": limit, **{name: value for name, value in self.options.items() if value != []}}
        if self.form or self.choice == "required":
            options.setdefault("stop", [])  # the model's own stop words could cut JSON off, which its grammar ends
        chat: dict[str, Any] = {"think": self.thinks(gateway)}
        tools = self.tools if self.choice != "none" else []
        if self.choice == "required":
            forced = self._forced()
            messages = forced.told(self._messages(gateway))
            _check_schemas([tool.arguments for tool in forced.tools], caller)
            return {"messages": messages, **chat, "format": forced.form}, options, forced
        if tools:
            chat["tools"] = self._tools(gateway)
        budget, schemas = Budget(), list[Schema]()
        if self.form and self.form.schema is None:
            chat["format"] = "json"
        elif self.form:
            schemas.append(held(self.form.field, self.form.schema, budget))
            chat["format"] = schemas[0].grammar.schema
        strict = tuple(tool.callable(budget) for tool in tools if tool.strict)
        calls = FreeCalls(strict, self.several) if strict or (tools and not self.several) else None
        fit: Fit | None = calls if not schemas or schemas[0].grammar.exact else FittingText(schemas[0], calls)
        schemas += [tool.arguments for tool in strict]
        messages = self._messages(gateway)
        _check_schemas(schemas, caller)
        return {"messages": messages, **chat}, options, fit

    def _forced(self) -> ForcedCall:
        """Return what forces the call of a tool; raises InvalidRequest."""
        tools = [tool for tool in self.tools if self.named in (None, tool.name)]
        if not tools:
            missing = f"{shown(self.named)!r} is none of the tools" if self.named else "there are no tools"
            raise InvalidRequest(f"{self.choice_field}: {missing}")
        budget = Budget()
        listed = budget.spend(sum(call_cost(tool.name) for tool in tools))
        budget = budget if listed else Budget(0)
        callables = tuple(tool.callable(budget, f"t{index}_") for index, tool in enumerate(tools))
        return ForcedCall(callables, listed)

    def _check_names(self) -> None:
        seen: set[str] = set()
        for tool in self.tools:
            if tool.name in seen:
                raise InvalidRequest(f"{tool.field}.name: another tool has the same; each must have its own")
            seen.add(tool.name)

    def _sizes(self) -> Iterator[tuple[str, int]]:
        for turn in self.turns:
            yield from turn.sizes()
        for tool in self.tools:
            yield from tool.sizes()
        if self.form:
            yield self.form.field, write_size(self.form.schema or {})
        yield self.stop_field, sum(map(len, self.options.get("stop", ())))

    # Ollama's clients look for the words "does not support thinking" and "does not support tools".
    def thinks(self, gateway: Gateway) -> bool | str:
        """Return how the model shall think; raises InvalidRequest if it can't."""
        can = not gateway.watch.capabilities or THINKS in gateway.watch.capabilities
        if self.think and not can and self.think_field:
            message = f"{self.think_field}: {gateway.settings.model} does not support thinking"
            raise InvalidRequest(message, hint="leave it out")
        return can and self.think

    def _tools(self, gateway: Gateway) -> list[dict[str, Any]]:
        if gateway.watch.capabilities and TOOLS not in gateway.watch.capabilities:
            forced = f"with a `{self.choice_field}` that forces a call, every model makes one"
            message = f"tools: {gateway.settings.model} does not support tools"
            raise InvalidRequest(message, hint=forced if self.choice_field else None)
        return [tool.for_ollama() for tool in self.tools]

    def _messages(self, gateway: Gateway) -> list[dict[str, Any]]:
        if not any(turn.says_something for turn in self.turns):
            where = self.turns[-1].content_field if self.turns else self.said
            raise InvalidRequest(f"{where}: must not be empty or blank")
        messages = [turn.for_ollama() for turn in self.turns]
        owners = [index for index, turn in enumerate(self.turns) for _ in turn.images]
        sent = {name: data for turn in self.turns for name, data in turn.images.items()}
        for turn in self.turns:
            turn.images.clear()
        images = check_images(sent, gateway.settings, gateway.watch.capabilities)
        for owner, image in zip(owners, images, strict=True):
            messages[owner].setdefault("images", []).append(image)
        return messages


def _check_schemas(schemas: list[Schema], caller: Caller | None) -> None:
    """Refuse a request for its schemas. It has nothing else left to do here, so it lets other large requests go on."""
    if caller:
        caller.client.settled()
    check_schemas(schemas, caller.record.key if caller else None)
