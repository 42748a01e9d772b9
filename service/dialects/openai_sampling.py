"""The common fields of OpenAI's chat completions and completions: how the answer is sampled and sent."""

from typing import Annotated, Any, Literal

from pydantic import Field

from service.dialects.unions import TextOrList
from service.parsing import (
    Body,
    Ignored,
    MaxTokens,
    Name,
    Penalty,
    Seed,
    Share,
    Stop,
    StopWord,
    Temperature,
    drop_none,
)


class StreamOptions(Body):
    """What a stream contains besides the answer; there is no padding, so `include_obfuscation` has no effect."""

    include_usage: bool = False
    include_obfuscation: Ignored


class SamplingBody(Body):
    """OpenAI's fields, without the prompt. n, logit_bias: only the values that have no effect."""

    model: Name
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    stop: TextOrList[StopWord, Stop] | None = None
    seed: Seed | None = None
    n: Literal[1] = 1
    logit_bias: Annotated[dict[str, float] | None, Field(max_length=0, description="{}")] = None
    user: Ignored

    @property
    def stream_usage(self) -> bool:
        """Say whether a stream ends with the token usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self) -> dict[str, Any]:
        """Return the options with Ollama's names."""
        return drop_none(
            temperature=self.temperature,
            top_p=self.top_p,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            stop=[self.stop] if isinstance(self.stop, str) else self.stop,
            seed=self.seed,
        )
