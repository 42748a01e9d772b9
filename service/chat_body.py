"""The body of `POST /v1/chat/completions`: the part of OpenAI's API that Ollama can keep, and its translation."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from service.chat_messages import Message
from service.chat_tools import MAX_TOOLS, ResponseFormat, Tool
from service.errors import InvalidRequest
from service.gateway import Gateway
from service.parsing import (
    Body,
    Items,
    MaxTokens,
    Name,
    Seed,
    Stop,
    StopWord,
    Temperature,
    check_images,
    check_max_tokens,
    check_size,
    given,
)
from service.routing import check_model, check_thinks

MAX_MESSAGES = 1024
Penalty = Annotated[float, Field(ge=-2, le=2)]


class StreamOptions(Body):
    """What a stream contains besides the answer; there is no padding, so `include_obfuscation` changes nothing."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class ChatBody(Body):
    """The body of POST /v1/chat/completions."""

    example = (
        'send JSON, such as: curl "$URL/v1/chat/completions" '
        """-d '{"model": "MODEL", "messages": [{"role": "user", "content": "Hi"}]}'"""
    )

    model: Name
    messages: Annotated[Items[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    stop: StopWord | Stop | None = None
    seed: Seed | None = None
    n: Literal[1] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[Items[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = None
    # What OpenAI's service does with these is nothing to do here, and changes no answer.
    user: Annotated[str, Field(max_length=512)] | None = None
    store: bool | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    service_tier: Literal["auto", "default"] | None = None
    logprobs: Literal[False] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None

    def for_ollama(self, gateway: Gateway) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return chat and options for Ollama, and forget the images as they were sent.

        Raises a ServiceError for what the settings or the model don't allow.
        """
        check_model(self.model, gateway)
        check_size(self._sizes(), gateway.settings)
        options = self._options(gateway)
        answer = self.response_format.for_ollama() if self.response_format else {}
        tools, thinking = self._tools(gateway), self._thinking(gateway)
        return {"messages": self._messages(gateway), **answer, **tools, **thinking}, options

    def _sizes(self) -> Iterator[tuple[str, int]]:
        for i, message in enumerate(self.messages):
            yield from message.sizes(f"messages[{i}]")
        for i, tool in enumerate(self.tools or ()):
            yield from tool.sizes(f"tools[{i}]")
        if self.response_format:
            yield from self.response_format.sizes()
        yield "stop", sum(map(len, self._stop() or ()))

    def _stop(self) -> list[str] | None:
        return [self.stop] if isinstance(self.stop, str) else self.stop

    def _tools(self, gateway: Gateway) -> dict[str, Any]:
        if not self.tools or self.tool_choice == "none":
            return {}
        capabilities = gateway.watch.capabilities
        if capabilities and "tools" not in capabilities:
            raise InvalidRequest(f"tools: {gateway.settings.model} has none")
        return {"tools": [tool.for_ollama(f"tools[{i}]") for i, tool in enumerate(self.tools)]}

    def _thinking(self, gateway: Gateway) -> dict[str, Any]:
        """Return Ollama's field; without one a model that can answer without thinking first does."""
        effort = self.reasoning_effort
        if effort in (None, "none"):
            return {}
        check_thinks("reasoning_effort", gateway)
        return {"think": "low" if effort == "minimal" else effort}

    def _messages(self, gateway: Gateway) -> list[dict[str, Any]]:
        named = {f"messages[{i}]": message for i, message in enumerate(self.messages)}
        fields = {name: message.take_images(name) for name, message in named.items()}
        if not any(fields.values()) and not any(message.text().strip() for message in self.messages):
            raise InvalidRequest("messages: must not all be empty")
        messages = {name: message.for_ollama(name, []) for name, message in named.items()}
        owners = {field: name for name, own in fields.items() for field in own}
        all_images = {field: data for own in fields.values() for field, data in own.items()}
        fields.clear()
        for name, image in zip(
            owners.values(), check_images(all_images, gateway.settings, gateway.watch.capabilities), strict=True
        ):
            messages[name].setdefault("images", []).append(image)
        return list(messages.values())

    def _options(self, gateway: Gateway) -> dict[str, Any]:
        for name in ("max_tokens", "max_completion_tokens"):
            check_max_tokens(name, getattr(self, name), gateway.settings)
        return given(
            num_predict=self.max_completion_tokens or self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            stop=self._stop(),
            seed=self.seed,
        )
