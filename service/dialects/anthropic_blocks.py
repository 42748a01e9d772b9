"""The content blocks of `POST /v1/messages`: texts, images, documents, tool calls and their results."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field

from service.dialects.unions import TOLD_BY_TYPE, TextOrList
from service.parsing import Body, Ignored, Image, Items, Name
from service.question import Called, Turn

MAX_BLOCKS = 256


def only(kind: str, sentence: str) -> BeforeValidator:
    """Return a validator that refuses types other than `kind` with one sentence, instead of errors for each field."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and value.get("type") not in (None, kind):
            raise ValueError(sentence)
        return value

    return BeforeValidator(check)


class Block(Body):
    """A block of a message. cache_control affects no answer."""

    cache_control: Ignored


class TextBlock(Block):
    """A text; also accepts the form of our answers."""

    type: Literal["text"]
    text: str
    citations: Ignored
    parsed_output: Ignored

    def said(self) -> list[str]:
        """Return what the model reads."""
        return [self.text]


class Base64Source(Body):
    """The bytes of an image, whose type is detected."""

    type: Literal["base64"]
    media_type: Ignored
    data: Image


class ImageBlock(Block):
    """An image."""

    type: Literal["image"]
    source: Annotated[Base64Source, only("base64", "must be of type base64; an address or a file is never fetched")]


class PlainTextSource(Body):
    """A document's text."""

    type: Literal["text"]
    media_type: Literal["text/plain"] = "text/plain"
    data: str


class NoCitations(Body):
    """Whether the answer cites a document, which isn't supported."""

    enabled: Literal[False] = False


class DocumentBlock(Block):
    """A document of plain text, separated from the texts around it by blank lines."""

    type: Literal["document"]
    source: Annotated[PlainTextSource, only("text", "must be plain text, of type text")]
    title: str | None = None
    context: str | None = None
    citations: NoCitations | None = None

    def said(self) -> list[str]:
        """Return what the model reads."""
        return [each for text in (self.title, self.context, self.source.data) if text for each in (text, "\n\n")]


class ThinkingBlock(Block):
    """Earlier thoughts, which aren't sent to the model again."""

    type: Literal["thinking"]
    thinking: Ignored
    signature: Ignored


class RedactedThinkingBlock(Block):
    """Earlier thoughts, encrypted by Anthropic."""

    type: Literal["redacted_thinking"]
    data: Ignored


class ToolUseBlock(Block):
    """A tool call that the model made earlier in the conversation."""

    type: Literal["tool_use"]
    id: Name
    name: Name
    input: dict[str, Any]
    caller: Ignored

    def asked(self, field: str) -> Called:
        """Return the call at `field` for the question."""
        return Called(field, self.name, self.input, self.id, name_field="name", arguments_field="input")


AnyBlock = TypeVar("AnyBlock")
# The content of a message or a result: a text, or a list of blocks.
Content = TextOrList[str, Annotated[Items[AnyBlock], Field(max_length=MAX_BLOCKS)]]


class ToolReferenceBlock(Block):
    """The name of a tool that a tool search found, and that the model may call from here on."""

    type: Literal["tool_reference"]
    tool_name: Name

    def said(self) -> list[str]:
        """Return what the model reads."""
        return [f"The tool {self.tool_name} can be called now.\n"]


ResultBlock = Annotated[TextBlock | ImageBlock | DocumentBlock | ToolReferenceBlock, TOLD_BY_TYPE]


class ToolResultBlock(Block):
    """The result of a tool."""

    type: Literal["tool_result"]
    tool_use_id: Name
    content: Content[ResultBlock] = ""
    is_error: bool = False

    def found(self) -> list[str]:
        """Return the names of tools that the model may call from here on."""
        blocks = () if isinstance(self.content, str) else self.content
        return [block.tool_name for block in blocks if isinstance(block, ToolReferenceBlock)]

    def asked(self, field: str, tools: Mapping[str, str]) -> Turn:
        """Return the result at `field` for the question; tools: their names, by the calls' ids."""
        where = f"{field}.content"
        return Turn(
            field,
            "tool",
            ["Error: " * self.is_error, *said(self.content)],  # Ollama has no field for errors
            images(where, self.content),
            call_id=self.tool_use_id,
            tool=tools.get(self.tool_use_id),
            text_field=where,
            id_field="tool_use_id",
        )


SAYING = (TextBlock, DocumentBlock, ToolReferenceBlock)


def said(content: str | Sequence[Block]) -> list[str]:
    """Return the text of a content in pieces; nothing separates the blocks, as in Ollama and OpenAI's API."""
    if isinstance(content, str):
        return [content]
    return [text for block in content if isinstance(block, SAYING) for text in block.said()]


def images(field: str, content: str | Sequence[Block]) -> dict[str, str]:
    """Return the images of the content at `field`, by their own fields."""
    blocks = () if isinstance(content, str) else enumerate(content)
    return {f"{field}[{i}].source.data": block.source.data for i, block in blocks if isinstance(block, ImageBlock)}
