"""The messages of `POST /v1/messages`, and how they become turns of a conversation."""

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
    """The name of a tool among the request's."""

    type: Literal["tool_reference"]
    name: Name


class ToolChangeBlock(Block):
    """What makes a tool available in the course of the conversation, or withdraws it."""

    type: Literal["tool_addition", "tool_removal"]
    tool: ChangedTool


SystemBlock = Annotated[TextBlock | ToolChangeBlock, TOLD_BY_TYPE]


class UserMessage(Body):
    """What the user says and sees, and what the tools have answered."""

    role: Literal["user"]
    content: Content[UserBlock]

    def asked(self, field: str, tools: Mapping[str, str]) -> Iterator[Turn]:
        """Yield message `field` as the question has it: each tool's result, and then what the user says."""
        blocks = () if isinstance(self.content, str) else enumerate(self.content)
        results = [b.asked(f"{field}.content[{i}]", tools) for i, b in blocks if isinstance(b, ToolResultBlock)]
        yield from results
        turn = Turn(field, "user", said(self.content), images(f"{field}.content", self.content))
        if turn.texts or turn.images or not results:
            yield turn


class AssistantMessage(Body):
    """What the model said, also as a whole answer of ours has it."""

    role: Literal["assistant"]
    content: Content[AssistantBlock]
    id: Ignored
    type: Ignored
    model: Ignored
    stop_reason: Ignored
    usage: Ignored

    def calls(self) -> list[tuple[int, ToolUseBlock]]:
        """Return the calls of tools with their places in the content."""
        blocks = () if isinstance(self.content, str) else enumerate(self.content)
        return [(i, block) for i, block in blocks if isinstance(block, ToolUseBlock)]

    def asked(self, field: str) -> Turn:
        """Return message `field` as the question has it."""
        calls = [block.asked(f"{field}.content[{i}]") for i, block in self.calls()]
        return Turn(field, "assistant", said(self.content), calls=calls)


class SystemMessage(Body):
    """What the system says in the course of the conversation; perhaps only until the user speaks again."""

    role: Literal["system"]
    content: Content[SystemBlock]
    clear_at: Literal["never", "next_user_message"] = "never"


AnyMessage = UserMessage | AssistantMessage | SystemMessage
Message = Annotated[AnyMessage, ToldBy("role")]


def turns_of(messages: Sequence[AnyMessage]) -> list[Turn]:
    """Return the turns of a conversation."""
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
    """Return the tools that the conversation has made available or withdrawn, by name, as it stands at its end."""
    changed: dict[str, bool] = {}
    for block in (block for message in messages if not isinstance(message.content, str) for block in message.content):
        if isinstance(block, ToolResultBlock):
            changed |= dict.fromkeys(block.found(), True)
        elif isinstance(block, ToolChangeBlock):
            changed[block.tool.name] = block.type == "tool_addition"
    return changed


def joined(turns: Iterable[Turn]) -> list[Turn]:
    """Return the turns with neighbours of the user's, or of the model's, made one, as Anthropic does."""
    result: list[Turn] = []
    for turn in turns:
        if result and turn.role == result[-1].role and turn.role in JOINED:
            result[-1].extend(turn, "\n\n")
        else:
            result.append(turn)
    return result
