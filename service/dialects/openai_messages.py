"""The messages of `POST /v1/chat/completions`: text, images, and calls of tools with their results."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from service.dialects.unions import TOLD_BY_TYPE, TextOrList
from service.parsing import Body, Ignored, Items, Name
from service.question import MAX_TOOL_CALLS, Called, Turn


class TextPart(Body):
    """A piece of a message that is text."""

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
    """A piece of a message that is an image."""

    type: Literal["image_url"]
    image_url: ImageURL
    cache_control: Ignored


Part = Annotated[TextPart | ImagePart, TOLD_BY_TYPE]


class FunctionCall(Body):
    """A function that the model called, with its arguments as JSON text; no text means no arguments."""

    name: Name
    arguments: Annotated[str, Field(json_schema_extra={"format": "json-object"})]


class ToolCall(Body):
    """A call the model made earlier in the conversation."""

    id: Name
    type: Literal["function"] = "function"
    function: FunctionCall
    index: Ignored  # as a stream's pieces have it

    def asked(self, field: str) -> Called:
        """Return call `field` as the question has it."""
        return Called(field, self.function.name, self.function.arguments, self.id)


Content = TextOrList[str, Annotated[Items[Part], Field(max_length=256)]]


class Message(Body):
    """One message of the conversation, also as an answer of ours has it."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: Name | None = None
    tool_calls: Annotated[Items[ToolCall], Field(max_length=MAX_TOOL_CALLS)] | None = None
    tool_call_id: Name | None = None
    refusal: Ignored
    reasoning_content: Ignored  # what the model thought isn't sent to it again
    reasoning: Ignored
    annotations: Ignored

    def texts(self) -> list[str]:
        """Return the message's text in its parts."""
        if isinstance(self.content, list):
            return [part.text for part in self.content if isinstance(part, TextPart)]
        return [self.content or ""]

    def asked(self, field: str) -> Turn:
        """Return message `field` as the question has it; a person's name is left out, Ollama has no place for it."""
        parts = enumerate(self.content) if isinstance(self.content, list) else ()
        images = {f"{field}.content[{i}].image_url.url": p.image_url.url for i, p in parts if isinstance(p, ImagePart)}
        calls = [call.asked(f"{field}.tool_calls[{i}]") for i, call in enumerate(self.tool_calls or ())]
        tool = self.name if self.role == "tool" else None
        role = "system" if self.role == "developer" else self.role
        return Turn(field, role, self.texts(), images, calls, self.tool_call_id, tool)
