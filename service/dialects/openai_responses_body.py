"""The body of `POST /v1/responses`: OpenAI's fields, as far as they work without stored answers."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from service.dialects.openai_chat_body import EFFORTS, ChoiceWord, Effort
from service.dialects.openai_responses_items import Item, conversation
from service.dialects.unions import TextOrList, WordOrObject
from service.errors import InvalidRequest
from service.parsing import Body, Ignored, Items, MaxTokens, Name, Share, Temperature, drop_none
from service.question import MAX_MESSAGES, MAX_TOOLS, SPOKEN, Form, Question, Turn, system_turns
from service.question import Tool as AskedTool

NOT_KEPT = "is not supported: nothing is stored here, so send the earlier items in input"
MAX_METADATA = 16

Input = TextOrList[str, Annotated[Items[Item], Field(min_length=1, max_length=MAX_MESSAGES, json_schema_extra=SPOKEN)]]


class FunctionTool(Body):
    """A function that the model may call; parameters is a JSON schema, which `strict` enforces for the arguments."""

    type: Literal["function"]
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool = False

    def asked(self, field: str) -> AskedTool:
        """Return the tool at `field` for the question."""
        return AskedTool(field, self.name, self.description, self.parameters, self.strict)


class FunctionChoice(Body):
    """The tool that the model must call."""

    type: Literal["function"]
    name: Name


ToolChoice = WordOrObject[ChoiceWord, FunctionChoice]


class TextFormat(Body):
    """The required form of the answer; a schema is always enforced, regardless of `strict`."""

    model_config = ConfigDict(
        json_schema_extra={  # the condition of asked()
            "anyOf": [
                {"properties": {"type": {"enum": ["text", "json_object"]}}},
                {"properties": {"schema": {"type": "object"}}, "required": ["schema"]},
            ]
        }
    )

    type: Literal["text", "json_object", "json_schema"]
    name: Name | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    description: Annotated[str, Field(max_length=4096)] | None = None
    strict: bool | None = None

    def asked(self) -> Form | None:
        """Return the form for the question, None for plain text; raises InvalidRequest."""
        if self.type == "json_schema":
            if self.schema_ is None:
                raise InvalidRequest("text.format.schema: is required with type json_schema")
            return Form("text.format.schema", self.schema_)
        return Form("text.format") if self.type == "json_object" else None

    def told(self) -> dict[str, Any]:
        """Return the fields that the answer repeats."""
        return drop_none(**self.model_dump(by_alias=True))

    @model_validator(mode="after")
    def _without_idle_schema(self) -> Self:
        """Drop a schema that asks for nothing: no budget counts it."""
        if self.type != "json_schema":
            self.schema_ = None
        return self


class TextOptions(Body):
    """The form of the answer's text."""

    format: TextFormat | None = None
    verbosity: Ignored


Summary = Literal["auto", "concise", "detailed"]


class Reasoning(Body):
    """Whether the model thinks first, and whether the answer contains its thoughts, as their own summary."""

    effort: Literal[Effort, "max"] | None = None
    summary: Summary | None = None
    generate_summary: Summary | None = None
    context: Ignored
    mode: Ignored

    @property
    def shown(self) -> bool:
        """Say whether the answer shall contain the model's thoughts."""
        return bool(self.summary or self.generate_summary)

    @property
    def think(self) -> bool | str:
        """Return `think` in Ollama's form; a request for thoughts implies thinking."""
        return EFFORTS.get(self.effort, self.effort) if self.effort else self.shown


class ResponseStreamOptions(Body):
    """Options of a stream; there is no padding, so this one has no effect."""

    include_obfuscation: Ignored


# Additional parts of an answer. They are always absent here: the tools that they belong to aren't supported.
Included = Literal[
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
]


# Within OpenAI's limits, because the answer repeats it.
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=MAX_METADATA),
]


class ResponsesBody(Body):
    """The body of POST /v1/responses."""

    example = """send JSON, such as: curl "$URL/v1/responses" -d '{"model": "MODEL", "input": "Hi"}'"""
    refused: ClassVar = {"previous_response_id": NOT_KEPT, "conversation": NOT_KEPT, "prompt": NOT_KEPT}

    model: Name
    input: Input
    instructions: str | None = None
    stream: bool = False
    stream_options: ResponseStreamOptions | None = None
    max_output_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    tools: Annotated[Items[FunctionTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    metadata: Metadata | None = None
    # Only the values that have no effect.
    background: Literal[False] = False
    include: Annotated[list[Included], Field(max_length=16)] | None = None
    top_logprobs: Literal[0] = 0
    truncation: Literal["auto", "disabled"] = "disabled"  # a prompt that doesn't fit is always refused
    max_tool_calls: Ignored  # for OpenAI's own tools
    prompt_cache_key: Ignored
    prompt_cache_options: Ignored
    prompt_cache_retention: Ignored
    safety_identifier: Ignored
    service_tier: Ignored
    store: Ignored
    user: Ignored

    @property
    def shows_thoughts(self) -> bool:
        """Say whether the answer contains the model's thoughts."""
        return bool(self.reasoning and self.reasoning.shown)

    @property
    def _format(self) -> TextFormat | None:
        return self.text.format if self.text else None

    def question(self) -> Question:
        """Return the question; raises InvalidRequest."""
        turns = system_turns(self.instructions, "instructions")
        if isinstance(self.input, str):
            turns.append(Turn("input", "user", [self.input], text_field="input"))
        else:
            turns += conversation(self.input)
        return Question(
            turns,
            "input",
            drop_none(temperature=self.temperature, top_p=self.top_p),
            model=self.model,
            max_tokens=self.max_output_tokens,
            tools=[tool.asked(f"tools[{i}]") for i, tool in enumerate(self.tools or ())],
            choice=self.tool_choice if isinstance(self.tool_choice, str) else "required",
            named=self.tool_choice.name if isinstance(self.tool_choice, FunctionChoice) else None,
            several=self.parallel_tool_calls,
            form=self._format.asked() if self._format else None,
            think=self.reasoning.think if self.reasoning else False,
            stream=self.stream,
        )

    def told(self, max_tokens: int) -> dict[str, Any]:
        """Return the fields that the answer repeats; max_tokens: the upper limit."""
        limit = min(self.max_output_tokens, max_tokens) if self.max_output_tokens else None
        choice = self.tool_choice
        return {
            "instructions": self.instructions,
            "max_output_tokens": limit,
            "metadata": self.metadata or {},
            "parallel_tool_calls": self.parallel_tool_calls,
            "reasoning": self.reasoning.model_dump(include={"effort", "summary"}) if self.reasoning else None,
            "temperature": self.temperature,
            "text": {"format": self._format.told() if self._format else {"type": "text"}},
            "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
            "tools": [tool.model_dump() for tool in self.tools or ()],
            "top_p": self.top_p,
        }
