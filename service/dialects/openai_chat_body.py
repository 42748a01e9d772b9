"""The body of `POST /v1/chat/completions`: OpenAI's fields, as far as Ollama can keep them."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from service.dialects.openai_messages import Message
from service.dialects.openai_tools import NamedTool, ResponseFormat, Tool
from service.parsing import (
    WHOLE,
    Body,
    Ignored,
    Items,
    MaxTokens,
    Name,
    Penalty,
    Seed,
    Share,
    Stop,
    StopWord,
    Temperature,
    given,
)
from service.question import MAX_MESSAGES, MAX_TOOLS, SPOKEN, Question

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
EFFORTS: dict[str, bool | str] = {"none": False, "minimal": "low", "xhigh": "high"}  # where Ollama's word is another
ToolChoice = Annotated[
    Annotated[Literal["auto", "none", "required"], Tag("word")] | Annotated[NamedTool, Tag("tool")],
    Discriminator(lambda value: "tool" if isinstance(value, dict) else "word"),
]


class StreamOptions(Body):
    """What a stream contains besides the answer; there is no padding, so `include_obfuscation` changes nothing."""

    include_usage: bool = False
    include_obfuscation: Ignored


class ChatBody(Body):
    """The body of POST /v1/chat/completions."""

    example = (
        'send JSON, such as: curl "$URL/v1/chat/completions" '
        """-d '{"model": "MODEL", "messages": [{"role": "user", "content": "Hi"}]}'"""
    )

    model: Name
    messages: Annotated[Items[Message], Field(min_length=1, max_length=MAX_MESSAGES, json_schema_extra=SPOKEN)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000), WHOLE] | None = None
    min_p: Share | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repeat_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    stop: StopWord | Stop | None = None
    seed: Seed | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[Items[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    reasoning_effort: Effort = "none"
    # Only the values that change nothing.
    n: Literal[1] = 1
    logprobs: Literal[False] = False
    top_logprobs: Literal[0] = 0
    logit_bias: Annotated[dict[str, float] | None, Field(max_length=0, description="{}")] = None
    modalities: Annotated[list[Literal["text"]] | None, Field(max_length=1, description='["text"]')] = None
    ignore_eos: Ignored
    metadata: Ignored
    prediction: Ignored
    prompt_cache_key: Ignored
    prompt_cache_retention: Ignored
    safety_identifier: Ignored
    service_tier: Ignored
    store: Ignored
    user: Ignored
    verbosity: Ignored

    def question(self) -> Question:
        """Return what is asked; raises InvalidRequest."""
        named = self.tool_choice.function.name if isinstance(self.tool_choice, NamedTool) else None
        return Question(
            [message.asked(f"messages[{i}]") for i, message in enumerate(self.messages)],
            "messages",
            self._options(),
            model=self.model,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            tools=[tool.asked(f"tools[{i}]") for i, tool in enumerate(self.tools or ())],
            choice=self.tool_choice if isinstance(self.tool_choice, str) else "required",
            named=named,
            several=self.parallel_tool_calls,
            form=self.response_format.asked() if self.response_format else None,
            think=EFFORTS.get(self.reasoning_effort, self.reasoning_effort),
            stream=self.stream,
            stream_usage=bool(self.stream_options and self.stream_options.include_usage),
        )

    def _options(self) -> dict[str, object]:
        return given(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            repeat_penalty=self.repeat_penalty,
            stop=[self.stop] if isinstance(self.stop, str) else self.stop,
            seed=self.seed,
        )
