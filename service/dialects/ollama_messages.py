"""The messages and tools of `POST /api/chat`, as Ollama has them: images in each message, arguments as objects."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema

from service.dialects.openai_tools import Function
from service.parsing import Body, Ignored, Image, Items, Name
from service.question import MAX_TOOL_CALLS, Called, Role, Tool, Turn

ROLES = "|".join("".join(f"[{letter}{letter.upper()}]" for letter in role) for role in get_args(Role))
AnyCaseRole = Annotated[
    Role,
    BeforeValidator(lambda role: role.lower() if isinstance(role, str) else role),
    WithJsonSchema({"type": "string", "pattern": f"^({ROLES})$"}),
]


class CalledFunction(Body):
    """A function that the model called, with its arguments."""

    name: Name
    arguments: dict[str, Any] = Field(default_factory=dict)
    index: Ignored


class OllamaToolCall(Body):
    """A call the model made earlier in the conversation."""

    id: Annotated[str, Field(max_length=256)] | None = None
    function: CalledFunction
    type: Ignored
    index: Ignored

    def asked(self, field: str) -> Called:
        """Return call `field` as the question has it."""
        return Called(field, self.function.name, self.function.arguments, self.id or None)


class OllamaMessage(Body):
    """One message of the conversation, also as an answer of ours has it. What the model thought isn't sent to it again.

    tool_name, tool_call_id: of a tool's message: which tool it is from, and which call it answers.
    """

    role: AnyCaseRole
    content: str = ""
    images: Annotated[Items[Image], Field(max_length=64)] | None = None
    tool_calls: Annotated[Items[OllamaToolCall], Field(max_length=MAX_TOOL_CALLS)] | None = None
    tool_name: Annotated[str, Field(max_length=256)] | None = None
    tool_call_id: Annotated[str, Field(max_length=256)] | None = None
    name: Ignored
    thinking: Ignored

    def asked(self, field: str) -> Turn:
        """Return message `field` as the question has it."""
        images = {f"{field}.images[{i}]": data for i, data in enumerate(self.images or ())}
        calls = [call.asked(f"{field}.tool_calls[{i}]") for i, call in enumerate(self.tool_calls or ())]
        id_, tool = self.tool_call_id or None, self.tool_name or None
        return Turn(field, self.role, [self.content], images, calls, id_, tool)


class OllamaTool(Body):
    """A tool the model may use."""

    type: Literal["function"] = "function"
    function: Function
    items: Ignored

    def asked(self, field: str) -> Tool:
        """Return tool `field` as the question has it; `strict` is no word of Ollama's."""
        function = self.function
        return Tool(f"{field}.function", function.name, function.description, function.parameters)
