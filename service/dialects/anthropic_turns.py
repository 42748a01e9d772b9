"""The messages of `POST /v1/messages`, and their conversion to the turns of a question."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Literal

from service.dialects.anthropic_blocks import (
    Block,
    Content,
    DocumentBlock,
    ImageBlock,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    images,
    said,
)
from service.dialects.unions import TOLD_BY_TYPE, ToldBy
from service.parsing import Body, Ignored, Name
from service.question import Turn

JOINED = ("user", "assistant")
UserBlock = Annotated[TextBlock | ImageBlock | DocumentBlock | ToolResultBlock, TOLD_BY_TYPE]
AssistantBlock = Annotated[TextBlock | ToolUseBlock | ThinkingBlock | RedactedThinkingBlock, TOLD_BY_TYPE]


class ChangedTool(Body):
    """The name of one of the request's tools."""

    type: Literal["tool_reference"]
    name: Name


class ToolChangeBlock(Block):
    """The addition or removal of a tool during the conversation."""

    type: Literal["tool_addition", "tool_removal"]
    tool: ChangedTool


SystemBlock = Annotated[TextBlock | ToolChangeBlock, TOLD_BY_TYPE]


class UserMessage(Body):
    """The user's texts and images, and the results of tools."""

    role: Literal["user"]
    content: Content[UserBlock]

    def asked(self, field: str, tools: Mapping[str, str]) -> Iterator[Turn]:
        """Yield the message at `field` for the question: the result of each tool, then the user's own turn."""
        blocks = () if isinstance(self.content, str) else enumerate(self.content)
        results = [b.asked(f"{field}.content[{i}]", tools) for i, b in blocks if isinstance(b, ToolResultBlock)]
        yield from results
        turn = Turn(field, "user", said(self.content), images(f"{field}.content", self.content))
        if turn.texts or turn.images or not results:
            yield turn


class AssistantMessage(Body):
    """An answer of the model; also accepts the form of our answers."""

    role: Literal["assistant"]
    content: Content[AssistantBlock]
    id: Ignored
    type: Ignored
    model: Ignored
    stop_reason: Ignored
    usage: Ignored

    def calls(self) -> list[tuple[int, ToolUseBlock]]:
        """Return the tool calls with their indices in the content."""
        blocks = () if isinstance(self.content, str) else enumerate(self.content)
        return [(i, block) for i, block in blocks if isinstance(block, ToolUseBlock)]

    def asked(self, field: str) -> Turn:
        """Return the message at `field` for the question."""
        calls = [block.asked(f"{field}.content[{i}]") for i, block in self.calls()]
        return Turn(field, "assistant", said(self.content), calls=calls)


class SystemMessage(Body):
    """A system message during the conversation, possibly valid only until the user's next message."""

    role: Literal["system"]
    content: Content[SystemBlock]
    clear_at: Literal["never", "next_user_message"] = "never"


AnyMessage = UserMessage | AssistantMessage | SystemMessage
Message = Annotated[AnyMessage, ToldBy("role")]


def turns_of(messages: Sequence[AnyMessage]) -> list[Turn]:
    """Return the turns of the conversation."""
    return joined(_turns(messages))


def _turns(messages: Sequence[AnyMessage]) -> Iterator[Turn]:
    tools = {
        call.id: call.name
        for message in messages
        if isinstance(message, AssistantMessage)
        for _, call in message.calls()
    }
    last_user = max((i for i, message in enumerate(messages) if message.role == "user"), default=-1)
    for i, message in enumerate(messages):
        field = f"messages[{i}]"
        if isinstance(message, UserMessage):
            yield from message.asked(field, tools)
        elif isinstance(message, AssistantMessage):
            yield message.asked(field)
        elif any(texts := said(message.content)) and (message.clear_at == "never" or i > last_user):
            yield Turn(field, "system", texts)


def changed_tools(messages: Sequence[AnyMessage]) -> dict[str, bool]:
    """Return the tools that the conversation added (True) or removed, by name, in their final state."""
    changed: dict[str, bool] = {}
    for block in (block for message in messages if not isinstance(message.content, str) for block in message.content):
        if isinstance(block, ToolResultBlock):
            changed |= dict.fromkeys(block.found(), True)
        elif isinstance(block, ToolChangeBlock):
            changed[block.tool.name] = block.type == "tool_addition"
    return changed


def joined(turns: Iterable[Turn]) -> list[Turn]:
    """Return the turns with consecutive ones of the user, or of the model, merged, as Anthropic does."""
    result: list[Turn] = []
    for turn in turns:
        if result and turn.role == result[-1].role and turn.role in JOINED:
            result[-1].extend(turn, "\n\n")
        else:
            result.append(turn)
    return result
