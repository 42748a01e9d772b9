"""The messages of `POST /v1/chat/completions`: text, images, and calls of tools with their results."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from service.errors import InvalidRequest
from service.json_input import read_json
from service.parsing import Body, Items, Name, given

MAX_TOOL_CALLS = 128


class TextPart(Body):
    """A piece of a message that is text; `cache_control` is another server's, and changes nothing."""

    type: Literal["text"]
    text: str
    cache_control: dict[str, Any] | None = None


def _data_url(url: str) -> str:
    if not url.startswith("data:"):
        raise ValueError("must be a data URL, data:image/png;base64,…; an address is never fetched")
    return url


class ImageURL(Body):
    """An image as a data URL; `detail` is accepted where it changes nothing."""

    url: Annotated[str, AfterValidator(_data_url), Field(json_schema_extra={"format": "image-data-url"})]
    detail: Literal["auto"] | None = None


class ImagePart(Body):
    """A piece of a message that is an image."""

    type: Literal["image_url"]
    image_url: ImageURL
    cache_control: dict[str, Any] | None = None


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class FunctionCall(Body):
    """A function the model called, with its arguments as JSON text; no text means no arguments."""

    name: Name
    arguments: Annotated[str, Field(json_schema_extra={"format": "json-object"})]


class ToolCall(Body):
    """A call the model made earlier in the conversation."""

    id: Name
    type: Literal["function"]
    function: FunctionCall

    def for_ollama(self, name: str) -> dict[str, Any]:
        """Return the call `name` as Ollama wants it; raises InvalidRequest."""
        field, text = f"{name}.function.arguments", self.function.arguments
        arguments = read_json(text.encode(), field) if text.strip() else {}
        if not isinstance(arguments, dict):
            raise InvalidRequest(f"{field}: must be a JSON object, as text")
        return {"id": self.id, "function": {"name": self.function.name, "arguments": arguments}}


Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[Items[Part], Field(max_length=256), Tag("parts")],
    Discriminator(lambda value: "parts" if isinstance(value, list) else "text"),
]


class Message(Body):
    """One message of the conversation. What the model said of its reasoning, or refused to say, isn't sent on."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: Name | None = None
    tool_calls: Annotated[Items[ToolCall], Field(max_length=MAX_TOOL_CALLS)] | None = None
    tool_call_id: Name | None = None
    refusal: None = None
    reasoning_content: str | None = None

    def text(self) -> str:
        """Return the message's text, its parts joined."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content if isinstance(part, TextPart))
        return self.content or ""

    def sizes(self, field: str) -> Iterator[tuple[str, int]]:
        """Yield the characters that are sent on of message `field`, by field."""
        yield f"{field}.content", len(self.text())
        yield f"{field}.tool_call_id", len(self.tool_call_id or "")
        yield f"{field}.name", len(self._tool_name() or "")
        for i, call in enumerate(self.tool_calls or ()):
            yield f"{field}.tool_calls[{i}].id", len(call.id)
            yield f"{field}.tool_calls[{i}].function.name", len(call.function.name)
            yield f"{field}.tool_calls[{i}].function.arguments", len(call.function.arguments)

    def take_images(self, field: str) -> dict[str, str]:
        """Return the images in message `field` as they were sent, by field, and forget them here."""
        parts = enumerate(self.content) if isinstance(self.content, list) else ()
        images = {}
        for i, part in parts:
            if isinstance(part, ImagePart):
                images[f"{field}.content[{i}].image_url.url"] = part.image_url.url
                part.image_url.url = ""
        return images

    def for_ollama(self, field: str, images: list[str]) -> dict[str, Any]:
        """Return message `field` as Ollama wants it; raises InvalidRequest."""
        calls = [call.for_ollama(f"{field}.tool_calls[{i}]") for i, call in enumerate(self.tool_calls or ())]
        role = "system" if self.role == "developer" else self.role
        optional = {"images": images or None, "tool_calls": calls or None, "tool_call_id": self.tool_call_id}
        return {"role": role, "content": self.text(), **given(**optional, tool_name=self._tool_name())}

    def _tool_name(self) -> str | None:
        """Return the tool's name; that of a person is not sent on, since Ollama has no place for it."""
        return self.name if self.role == "tool" else None
