"""The bodies of `POST /v1/messages` and of `POST /v1/messages/count_tokens`: Anthropic's fields."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from service.dialects.anthropic_blocks import Content, TextBlock, only, said
from service.dialects.anthropic_turns import Message, changed_tools, turns_of
from service.dialects.unions import TOLD_BY_TYPE
from service.parsing import WHOLE, Body, Ignored, Items, MaxTokens, Name, Share, Stop, drop_none
from service.question import MAX_MESSAGES, MAX_TOOLS, SPOKEN, Form, Question, Turn
from service.question import Tool as AskedTool

EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}  # Ollama's names
CHOICES: dict[str, Literal["auto", "none", "required"]] = {
    "auto": "auto",
    "none": "none",
    "any": "required",
    "tool": "required",
}
OWN_TOOLS = "must be of type custom, or of none: there are no tools here but the caller's own"


class Tool(Body):
    """A tool that the model may call; input_schema is a JSON schema, which `strict` enforces for the input."""

    type: Literal["custom"] = "custom"
    name: Name
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool = False
    defer_loading: bool = False  # until the conversation adds the tool: see changed_tools()
    allowed_callers: Annotated[Items[Literal["direct"]], Field(max_length=1)] | None = None
    eager_input_streaming: Ignored
    cache_control: Ignored

    def asked(self, field: str) -> AskedTool:
        """Return the tool at `field` for the question."""
        schema = self.input_schema
        return AskedTool(field, self.name, self.description, schema, self.strict, schema_field="input_schema")


class ToolChoice(Body):
    """Whether the model may, must or must not call a tool."""

    type: Literal["auto", "any", "none"]
    disable_parallel_tool_use: bool = False


class NamedToolChoice(Body):
    """The tool that the model must call."""

    type: Literal["tool"]
    name: Name
    disable_parallel_tool_use: bool = False


class Thinking(Body):
    """Whether the model thinks first, if it can. Its thoughts may use all of max_tokens: they have no budget."""

    type: Literal["enabled", "adaptive", "disabled"]
    display: Literal["summarized", "omitted"] = "summarized"
    budget_tokens: Ignored


class JsonFormat(Body):
    """The JSON schema that the answer must fit."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Body):
    """How much the model thinks, and the required form of the answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonFormat | None = None


class ContextEdit(Body):
    """A removal of earlier thoughts from the conversation; they are never sent to the model anyway."""

    type: Annotated[str, Field(pattern=r"^clear_thinking_[0-9]{8}$")]
    keep: Ignored


class ContextManagement(Body):
    """What is removed from the conversation."""

    edits: Annotated[Items[ContextEdit], Field(max_length=16)] | None = None


class CountTokensBody(Body):
    """The body of POST /v1/messages/count_tokens: a conversation."""

    example = (
        'send JSON, such as: curl "$URL/v1/messages/count_tokens" '
        """-d '{"model": "MODEL", "messages": [{"role": "user", "content": "Hi"}]}'"""
    )

    model: Name
    messages: Annotated[Items[Message], Field(min_length=1, max_length=MAX_MESSAGES, json_schema_extra=SPOKEN)]
    system: Content[TextBlock] | None = None
    tools: Annotated[Items[Annotated[Tool, only("custom", OWN_TOOLS)]], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Annotated[ToolChoice | NamedToolChoice, TOLD_BY_TYPE] | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig = OutputConfig()
    output_format: JsonFormat | None = None  # older clients' name for output_config.format
    context_management: ContextManagement | None = None
    cache_control: Ignored
    speed: Ignored

    def question(self) -> Question:
        """Return the question, to be answered with one token."""
        system = [Turn("system", "system", said(self.system), text_field="system")] if self.system else []
        choice = self.tool_choice or ToolChoice(type="auto")
        return Question(
            [*system, *turns_of(self.messages)],
            "messages",
            stop_field="stop_sequences",
            model=self.model,
            max_tokens=1,
            tools=self._tools(),
            choice=CHOICES[choice.type],
            named=choice.name if isinstance(choice, NamedToolChoice) else None,
            several=not choice.disable_parallel_tool_use,
            form=self._form(),
            think=self._think(),  # agents ask every model to think; one that can't just answers, as in Ollama
        )

    def _tools(self) -> list[AskedTool]:
        changed = changed_tools(self.messages)
        there = [changed.get(tool.name, not tool.defer_loading) for tool in self.tools or ()]
        return [tool.asked(f"tools[{i}]") for i, tool in enumerate(self.tools or ()) if there[i]]

    def _form(self) -> Form | None:
        if self.output_config.format:
            return Form("output_config.format.schema", self.output_config.format.schema_)
        return Form("output_format.schema", self.output_format.schema_) if self.output_format else None

    def _think(self) -> bool | str:
        if self.thinking is None or self.thinking.type == "disabled":
            return False
        return EFFORTS.get(self.output_config.effort or "", True)


class MessagesBody(CountTokensBody):
    """The body of POST /v1/messages."""

    example = (
        'send JSON, such as: curl "$URL/v1/messages" '
        """-d '{"model": "MODEL", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}'"""
    )

    max_tokens: MaxTokens
    stream: bool = False
    stop_sequences: Stop | None = None
    temperature: Share | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000), WHOLE] | None = None
    diagnostics: Ignored
    fallbacks: Ignored
    inference_geo: Ignored
    metadata: Ignored
    service_tier: Ignored

    def question(self) -> Question:
        """Return the question."""
        sampling = drop_none(temperature=self.temperature, top_p=self.top_p, top_k=self.top_k, stop=self.stop_sequences)
        return replace(super().question(), options=sampling, max_tokens=self.max_tokens, stream=self.stream)

    @property
    def shows_thoughts(self) -> bool:
        """Say whether the answer contains the model's thoughts."""
        return self.thinking is None or self.thinking.display != "omitted"
