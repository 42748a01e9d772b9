"""The body of `POST /v1/chat/completions`: the part of OpenAI's API that Ollama can keep, and its translation."""

import json
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from service.errors import InvalidRequest
from service.gateway import Gateway
from service.parsing import (
    Body,
    MaxTokens,
    Seed,
    Stop,
    Temperature,
    Text,
    check_images,
    check_length,
    check_max_tokens,
    given,
)
from service.routing import check_model

Penalty = Annotated[float, Field(ge=-2, le=2)]


class TextPart(Body):
    """A piece of a message that is text."""

    type: Literal["text"]
    text: str


class ImageURL(Body):
    """An image as a data URL; `detail` is accepted where it changes nothing."""

    url: str
    detail: Literal["auto"] | None = None


class ImagePart(Body):
    """A piece of a message that is an image."""

    type: Literal["image_url"]
    image_url: ImageURL


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class FunctionCall(Body):
    """A function the model called, with its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(Body):
    """A call the model made earlier in the conversation."""

    id: str
    type: Literal["function"]
    function: FunctionCall


Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[Part], Tag("parts")],
    Discriminator(lambda value: "parts" if isinstance(value, list) else "text"),
]


class Message(Body):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    def text(self) -> str:
        """Return the message's text, its parts joined."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content if isinstance(part, TextPart))
        return self.content or ""

    def images(self, name: str) -> dict[str, str]:
        """Return the base64 data of the images in message `name` by field; raises InvalidRequest."""
        parts = enumerate(self.content) if isinstance(self.content, list) else ()
        urls = {f"{name}.content[{i}].image_url.url": p.image_url.url for i, p in parts if isinstance(p, ImagePart)}
        return {field: data_of(field, url) for field, url in urls.items()}

    def for_ollama(self, name: str, images: list[str]) -> dict[str, Any]:
        """Return message `name` as Ollama wants it; raises InvalidRequest."""
        calls = [_call_for_ollama(f"{name}.tool_calls[{i}]", call) for i, call in enumerate(self.tool_calls or ())]
        role = "system" if self.role == "developer" else self.role
        optional = {"images": images or None, "tool_calls": calls or None, "tool_call_id": self.tool_call_id}
        return {"role": role, "content": self.text(), **given(**optional)}


def data_of(field: str, url: str) -> str:
    """Return the base64 data of a data URL; raises InvalidRequest for any other address."""
    head, comma, data = url.partition(",")
    if not (comma and head.startswith("data:image/") and head.endswith(";base64")):
        raise InvalidRequest(f"{field}: must be a data URL, data:image/png;base64,…; an address is never fetched")
    return data


def _call_for_ollama(field: str, call: ToolCall) -> dict[str, Any]:
    try:
        arguments = json.loads(call.function.arguments)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidRequest(f"{field}.function.arguments: must be a JSON object, as text")
    return {"id": call.id, "function": {"name": call.function.name, "arguments": arguments}}


class Function(Body):
    """A function the model may call; parameters is a JSON schema."""

    name: Text
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(Body):
    """A tool the model may use."""

    type: Literal["function"]
    function: Function


class JsonSchema(Body):
    """A named JSON schema; the answer always keeps to it, whatever `strict` says."""

    name: str
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Body):
    """What the answer must look like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def for_ollama(self) -> dict[str, Any]:
        """Return Ollama's `format` field, or nothing for text; raises InvalidRequest."""
        if self.type == "json_schema":
            if self.json_schema is None:
                raise InvalidRequest("response_format.json_schema: is required with type json_schema")
            return {"format": self.json_schema.schema_}
        return {"format": "json"} if self.type == "json_object" else {}


class StreamOptions(Body):
    """What a stream contains besides the answer."""

    include_usage: bool = False


class ChatBody(Body):
    """The body of POST /v1/chat/completions."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    stop: str | Stop | None = None
    seed: Seed | None = None
    n: Literal[1] | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    reasoning_effort: Literal["none"] | None = None

    def for_ollama(self, gateway: Gateway) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return chat and options for Ollama; raises a ServiceError for what the settings or the model don't allow."""
        check_model(self.model, gateway)
        check_length("messages", "".join(message.text() for message in self.messages), gateway.settings)
        chat: dict[str, Any] = {"messages": self._messages(gateway)}
        if self.response_format:
            chat |= self.response_format.for_ollama()
        if self.tools and self.tool_choice != "none":
            capabilities = gateway.watch.capabilities
            if capabilities and "tools" not in capabilities:
                raise InvalidRequest(f"tools: {gateway.settings.model} has none")
            chat["tools"] = [tool.model_dump(exclude_none=True) for tool in self.tools]
        return chat, self._options(gateway)

    def _messages(self, gateway: Gateway) -> list[dict[str, Any]]:
        named = {f"messages[{i}]": message for i, message in enumerate(self.messages)}
        images = {name: message.images(name) for name, message in named.items()}
        all_images = {field: data for own in images.values() for field, data in own.items()}
        check_images(all_images, gateway.settings, gateway.watch.capabilities)
        if not all_images and not any(message.text().strip() for message in self.messages):
            raise InvalidRequest("messages: must not all be empty")
        return [message.for_ollama(name, list(images[name].values())) for name, message in named.items()]

    def _options(self, gateway: Gateway) -> dict[str, Any]:
        for name in ("max_tokens", "max_completion_tokens"):
            check_max_tokens(name, getattr(self, name), gateway.settings)
        return given(
            num_predict=self.max_completion_tokens or self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            stop=[self.stop] if isinstance(self.stop, str) else self.stop,
            seed=self.seed,
        )
