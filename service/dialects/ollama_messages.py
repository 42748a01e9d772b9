"""The messages and tools of `POST /api/chat`: images are in messages, arguments are objects."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema

from service.dialects.openai_tools import Function
from service.parsing import Body, Ignored, Image, Items, Name
from service.question import MAX_TOOL_CALLS, Called, Role, Tool, Turn

ROLES = "|".join("".join(f"[{letter}{letter.upper()}]" for letter in role) for role in get_args(Role))
AnyCaseRole = Annotated[
    Role,
    BeforeValidator(lambda role: role.lower() if isinstance(role, str) and len(role) < 16 else role),
    WithJsonSchema({"type": "string", "pattern": f"^({ROLES})$"}),
]


class CalledFunction(Body):
    """A function that the model called, with its arguments."""

    name: Name
    arguments: dict[str, Any] = Field(default_factory=dict)
    index: Ignored


class OllamaToolCall(Body):
    """A tool call that the model made earlier in the conversation."""

    id: Annotated[str, Field(max_length=256)] | None = None
    function: CalledFunction
    type: Ignored
    index: Ignored

    def asked(self, field: str) -> Called:
        """Return the call at `field` for the question."""
        return Called(field, self.function.name, self.function.arguments, self.id or None)


class OllamaMessage(Body):
    """A message of the conversation; also accepts the form of our answers. Thoughts aren't sent to the model again.

    tool_name, tool_call_id: of a tool's message: the tool, and the call that it answers.
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
        """Return the message at `field` for the question."""
        images = {f"{field}.images[{i}]": data for i, data in enumerate(self.images or ())}
        calls = [call.asked(f"{field}.tool_calls[{i}]") for i, call in enumerate(self.tool_calls or ())]
        id_, tool = self.tool_call_id or None, self.tool_name or None
        return Turn(field, self.role, [self.content], images, calls, id_, tool)


class OllamaTool(Body):
    """A tool that the model may call."""

    type: Literal["function"] = "function"
    function: Function
    items: Ignored

    def asked(self, field: str) -> Tool:
        """Return the tool at `field` for the question; Ollama has no `strict`."""
        function = self.function
        return Tool(f"{field}.function", function.name, function.description, function.parameters)
