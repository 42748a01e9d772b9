"""The input items of `POST /v1/responses`: messages, tool calls and their results, and items of earlier answers."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from service.dialects.openai_messages import DataURL
from service.dialects.unions import TOLD_BY_TYPE, TextOrList
from service.parsing import Body, Ignored, Items, Name
from service.question import Called, Turn

REFERENCE = (
    "refers to an item that isn't kept: nothing is stored here, so send the item itself "
    "(in Vercel's AI SDK: providerOptions.openai.store false)"
)
REASONING = "rs"  # prefix of the ids of reasoning items, here and in OpenAI's API
KINDS = "must be a message, function_call, function_call_output or reasoning item"


class InputText(Body):
    """A text part of a message."""

    type: Literal["input_text"]
    text: str


class OutputText(Body):
    """A text part of an earlier answer."""

    type: Literal["output_text"]
    text: str
    annotations: Ignored
    logprobs: Ignored
    parsed: Ignored  # added by OpenAI's Python client


class InputImage(Body):
    """An image part of a message, as a data URL."""

    type: Literal["input_image"]
    image_url: DataURL
    detail: Ignored


Part = Annotated[InputText | OutputText | InputImage, TOLD_BY_TYPE]
Content = TextOrList[str, Annotated[Items[Part], Field(max_length=256)]]


def _texts(content: str | list[Part]) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part.text for part in content if not isinstance(part, InputImage)]


def _images(content: str | list[Part], field: str) -> dict[str, str]:
    parts = enumerate(content) if isinstance(content, list) else ()
    return {f"{field}[{i}].image_url": part.image_url for i, part in parts if isinstance(part, InputImage)}


class MessageItem(Body):
    """A message of the conversation; also accepts the form of our answers."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    id: Ignored
    status: Ignored
    phase: Ignored

    def asked(self, field: str) -> Turn:
        """Return the message at `field` for the question."""
        role = "system" if self.role == "developer" else self.role
        return Turn(field, role, _texts(self.content), _images(self.content, f"{field}.content"))


class CallItem(Body):
    """A tool call that the model made earlier, with its arguments as JSON text."""

    type: Literal["function_call"]
    call_id: Name
    name: Name
    arguments: Annotated[str, Field(json_schema_extra={"format": "json-object"})]
    id: Ignored
    status: Ignored
    caller: Ignored
    parsed_arguments: Ignored  # added by OpenAI's Python client

    def asked(self, field: str) -> Called:
        """Return the call at `field` for the question."""
        return Called(field, self.name, self.arguments, self.call_id, "name", "arguments")


class ResultItem(Body):
    """The result of a tool call."""

    type: Literal["function_call_output"]
    call_id: Name
    output: Content
    name: Name | None = None
    id: Ignored
    status: Ignored
    caller: Ignored

    def asked(self, field: str, tool: str | None) -> Turn:
        """Return the result at `field` for the question; tool: its name, if known."""
        where, name = f"{field}.output", self.name or tool
        images = _images(self.output, where)
        return Turn(field, "tool", _texts(self.output), images, call_id=self.call_id, tool=name, text_field=where)


class ReasoningItem(Body):
    """Earlier thoughts, which aren't sent to the model again."""

    type: Literal["reasoning"]
    id: Ignored
    summary: Ignored
    content: Ignored
    encrypted_content: Ignored
    status: Ignored


class ReasoningReference(Body):
    """A reference to a reasoning item, as sent by Vercel's AI SDK; the item itself would be ignored too."""

    type: Literal["item_reference"] = "item_reference"
    id: Annotated[str, Field(pattern=f"^{REASONING}_", max_length=256)]


def _kind(item: Any) -> Any:
    """Return an item's type, which is optional for messages and references."""
    if not isinstance(item, dict):
        return None
    fields = {name for name, value in item.items() if value is not None}
    return item.get("type") or ("message" if "role" in fields else "item_reference" if fields == {"id"} else None)


def _kept(item: Any) -> Any:
    if _kind(item) == "item_reference" and not str(item.get("id")).startswith(f"{REASONING}_"):
        raise ValueError(REFERENCE)
    return item


Item = Annotated[
    Annotated[
        Annotated[MessageItem, Tag("message")]
        | Annotated[CallItem, Tag("function_call")]
        | Annotated[ResultItem, Tag("function_call_output")]
        | Annotated[ReasoningItem, Tag("reasoning")]
        | Annotated[ReasoningReference, Tag("item_reference")],
        Discriminator(_kind, custom_error_type="item_type", custom_error_message=KINDS),
    ],
    BeforeValidator(_kept),
]


def conversation(items: Iterable[Item]) -> list[Turn]:
    """Return the turns of the items in `input`: the calls of an answer and its text are one turn."""
    turns: list[Turn] = []
    tools: dict[str, str] = {}
    for i, item in enumerate(items):
        field = f"input[{i}]"
        last = turns[-1] if turns and turns[-1].role == "assistant" else None
        if isinstance(item, CallItem):
            if last is None:
                turns.append(last := Turn(field, "assistant"))
            last.calls.append(item.asked(field))
            tools[item.call_id] = item.name
        elif isinstance(item, ResultItem):
            turns.append(item.asked(field, tools.get(item.call_id)))
        elif isinstance(item, MessageItem):
            turn = item.asked(field)
            if last and last.calls and turn.role == "assistant":
                last.extend(turn, "\n")
            else:
                turns.append(turn)
    return turns
