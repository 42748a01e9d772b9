"""The body of `POST /v1/chat/completions`: OpenAI's fields, as far as Ollama supports them."""

from typing import Annotated, Any, Literal

from pydantic import Field

from service.dialects.openai_messages import Message
from service.dialects.openai_sampling import SamplingBody
from service.dialects.openai_tools import NamedTool, ResponseFormat, Tool
from service.dialects.unions import WordOrObject, or_else
from service.parsing import WHOLE, Ignored, Items, MaxTokens, Share, drop_none
from service.question import MAX_MESSAGES, MAX_TOOLS, SPOKEN, Question

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
EFFORTS: dict[str, bool | str] = {"none": False, "minimal": "low", "xhigh": "high"}  # where Ollama's name differs
ChoiceWord = Annotated[Literal["auto", "none", "required"], or_else("an object that names a function")]
ToolChoice = WordOrObject[ChoiceWord, NamedTool]


class ChatBody(SamplingBody):
    """The body of POST /v1/chat/completions."""

    example = (
        'send JSON, such as: curl "$URL/v1/chat/completions" '
        """-d '{"model": "MODEL", "messages": [{"role": "user", "content": "Hi"}]}'"""
    )

    messages: Annotated[Items[Message], Field(min_length=1, max_length=MAX_MESSAGES, json_schema_extra=SPOKEN)]
    max_completion_tokens: MaxTokens | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000), WHOLE] | None = None
    min_p: Share | None = None
    repeat_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[Items[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    reasoning_effort: Effort = "none"
    # Only the values that have no effect.
    logprobs: Literal[False] = False
    top_logprobs: Literal[0] = 0
    modalities: Annotated[list[Literal["text"]] | None, Field(max_length=1, description='["text"]')] = None
    ignore_eos: Ignored
    metadata: Ignored
    prediction: Ignored
    prompt_cache_key: Ignored
    prompt_cache_retention: Ignored
    safety_identifier: Ignored
    service_tier: Ignored
    store: Ignored
    verbosity: Ignored

    def question(self) -> Question:
        """Return the question; raises InvalidRequest."""
        named = self.tool_choice.function.name if isinstance(self.tool_choice, NamedTool) else None
        return Question(
            [message.asked(f"messages[{i}]") for i, message in enumerate(self.messages)],
            "messages",
            self.sampling(),
            model=self.model,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            tools=[tool.asked(f"tools[{i}]") for i, tool in enumerate(self.tools or ())],
            choice=self.tool_choice if isinstance(self.tool_choice, str) else "required",
            named=named,
            several=self.parallel_tool_calls,
            form=self.response_format.asked() if self.response_format else None,
            think=EFFORTS.get(self.reasoning_effort, self.reasoning_effort),
            stream=self.stream,
            stream_usage=self.stream_usage,
        )

    def sampling(self) -> dict[str, Any]:
        """Return the options with Ollama's names."""
        more = drop_none(top_k=self.top_k, min_p=self.min_p, repeat_penalty=self.repeat_penalty)
        return {**super().sampling(), **more}
