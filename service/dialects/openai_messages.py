"""The messages of `POST /v1/chat/completions`: texts, images, tool calls and their results."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from service.dialects.unions import TOLD_BY_TYPE, TextOrList
from service.parsing import Body, Ignored, Items, Name
from service.question import MAX_TOOL_CALLS, Called, Turn


class TextPart(Body):
    """A text part of a message."""

    type: Literal["text"]
    text: str
    cache_control: Ignored


def _data_url(url: str) -> str:
    if not url.startswith("data:"):
        raise ValueError("must be a data URL, data:image/png;base64,…; an address is never fetched")
    return url


DataURL = Annotated[str, AfterValidator(_data_url), Field(json_schema_extra={"format": "image-data-url"})]


class ImageURL(Body):
    """An image as a data URL."""

    url: DataURL
    detail: Ignored


class ImagePart(Body):
    """An image part of a message."""

    type: Literal["image_url"]
    image_url: ImageURL
    cache_control: Ignored


Part = Annotated[TextPart | ImagePart, TOLD_BY_TYPE]


class FunctionCall(Body):
    """A function that the model called, with its arguments as JSON text; an empty text means no arguments."""

    name: Name
    arguments: Annotated[str, Field(json_schema_extra={"format": "json-object"})]


class ToolCall(Body):
    """A tool call that the model made earlier in the conversation."""

    id: Name
    type: Literal["function"] = "function"
    function: FunctionCall
    index: Ignored  # in the pieces of a stream

    def asked(self, field: str) -> Called:
        """Return the call at `field` for the question."""
        return Called(field, self.function.name, self.function.arguments, self.id)


Content = TextOrList[str, Annotated[Items[Part], Field(max_length=256)]]


class Message(Body):
    """A message of the conversation; also accepts the form of our answers."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: Name | None = None
    tool_calls: Annotated[Items[ToolCall], Field(max_length=MAX_TOOL_CALLS)] | None = None
    tool_call_id: Name | None = None
    refusal: Ignored
    reasoning_content: Ignored  # thoughts aren't sent to the model again
    reasoning: Ignored
    annotations: Ignored

    def texts(self) -> list[str]:
        """Return the texts of the message's parts."""
        if isinstance(self.content, list):
            return [part.text for part in self.content if isinstance(part, TextPart)]
        return [self.content or ""]

    def asked(self, field: str) -> Turn:
        """Return the message at `field` for the question, without a person's name: Ollama has no field for it."""
        parts = enumerate(self.content) if isinstance(self.content, list) else ()
        images = {f"{field}.content[{i}].image_url.url": p.image_url.url for i, p in parts if isinstance(p, ImagePart)}
        calls = [call.asked(f"{field}.tool_calls[{i}]") for i, call in enumerate(self.tool_calls or ())]
        tool = self.name if self.role == "tool" else None
        role = "system" if self.role == "developer" else self.role
        return Turn(field, role, self.texts(), images, calls, self.tool_call_id, tool)
