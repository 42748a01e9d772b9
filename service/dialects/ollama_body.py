"""The common parts of the bodies of Ollama's API: sampling options, the answer's form, `keep_alive`."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema

from service.complaints import shown
from service.dialects.unions import WordOrObject, or_else
from service.errors import ModelNotServed
from service.gateway import Gateway
from service.keys import Key
from service.model_names import full_name
from service.models import Models
from service.parsing import (
    WHOLE,
    Body,
    Ignored,
    Items,
    Name,
    Penalty,
    Share,
    StopWord,
    Temperature,
    drop_none,
)
from service.question import Form, Question, Turn

# The syntax of Go's time.ParseDuration.
DURATION = r"^[-+]?(?:0|(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)$"
MAX_DURATION = 64  # characters
# Tokens; see CONTEXT_LENGTH. Replaces a `repeat_last_n` of -1: the whole context for Ollama, invalid for llama-server.
MAX_CONTEXT = 1_048_576


def _keep_alive(value: Any) -> Any:
    text = isinstance(value, str) and len(value) <= MAX_DURATION and re.fullmatch(DURATION, value)
    if not text and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError('must be seconds, or a duration such as "5m"')
    return value


KEEP_ALIVE = [{"type": "number"}, {"type": "string", "pattern": DURATION, "maxLength": MAX_DURATION}]
KeepAlive = Annotated[Any, AfterValidator(_keep_alive), WithJsonSchema({"anyOf": KEEP_ALIVE})]
Format = WordOrObject[Annotated[Literal["", "json"], or_else("a JSON schema")], dict[str, Any]]
Level = Annotated[Literal["low", "medium", "high", "max"], or_else("true or false")]
Think = Annotated[
    Annotated[bool, Tag("switch")] | Annotated[Level, Tag("level")],
    Discriminator(lambda value: "switch" if isinstance(value, bool) else "level"),
]


# For fields that may be sent only with the value that has no effect.
ONLY_FALSE = Field(description="false", json_schema_extra={"const": False})
ONLY_EMPTY = Field(description='""', json_schema_extra={"const": ""})


def without(reason: str) -> AfterValidator:
    """Return a validator of a field that clients send empty, and that isn't supported otherwise."""

    def check(value: Any) -> Any:
        if value:
            raise ValueError(f"is not supported: {reason}")
        return value

    return AfterValidator(check)


class Options(Body):
    """Sampling options. num_predict: MAX_TOKENS if it isn't positive.

    Options that Ollama doesn't know are ignored, as in Ollama. So are those for loading the model and for its use of
    the machine, which the operator has chosen.
    """

    model_config = ConfigDict(extra="ignore")

    temperature: Temperature | None = None
    top_k: Annotated[int, Field(ge=-1, le=1_000_000), WHOLE] | None = None
    top_p: Share | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    repeat_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    repeat_last_n: Annotated[int, Field(ge=-1, le=MAX_CONTEXT), WHOLE] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63), WHOLE] | None = None
    stop: Annotated[Items[StopWord], Field(max_length=64)] | None = None
    num_predict: Annotated[int, Field(ge=-2), WHOLE] | None = None
    num_ctx: Ignored
    num_batch: Ignored
    num_thread: Ignored
    num_gpu: Ignored
    main_gpu: Ignored
    num_keep: Ignored
    use_mmap: Ignored
    draft_num_predict: Ignored

    def sampling(self) -> dict[str, Any]:
        """Return the options for Ollama, without the length of the answer."""
        return drop_none(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            typical_p=self.typical_p,
            repeat_penalty=self.repeat_penalty,
            repeat_last_n=MAX_CONTEXT if self.repeat_last_n == -1 else self.repeat_last_n,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=self.seed,
            stop=self.stop,
        )


class GenerationBody(Body):
    """The common fields of /api/chat and /api/generate. A prompt that doesn't fit is refused, despite `truncate`."""

    model: Name
    stream: bool = True
    format: Format | None = None
    think: Think = False
    options: Options = Field(default_factory=lambda: Options.model_validate({}))
    keep_alive: KeepAlive | None = None
    logprobs: Annotated[bool, without("probabilities aren't passed on"), ONLY_FALSE] = False
    top_logprobs: Ignored
    truncate: Ignored
    shift: Ignored

    @property
    def unloads(self) -> bool:
        """Say whether the request asks to unload the model, which only the operator may do."""
        return self.keep_alive is not None and not re.search("[1-9]", str(self.keep_alive))

    def asked(self, turns: list[Turn], said: str) -> Question:
        """Return the question of this conversation; said: the name of its list in the request."""
        limit, form = self.options.num_predict or 0, self.format or None
        return Question(
            turns,
            said,
            self.options.sampling(),
            max_tokens=limit if limit > 0 else None,
            form=None if form is None else Form("format", form if isinstance(form, dict) else None),
            think=self.think,
            think_field="think",
            choice_field="",
            stream=self.stream,
        )


def find_model(models: Models, name: str, key: Key | None) -> Gateway:
    """Return the gateway of a model; refuses one that isn't served with the words that Ollama's clients look for."""
    try:
        return models.find(name, key)
    except ModelNotServed as error:
        served = error.message.removeprefix("model: ")
        raise ModelNotServed(f"model '{shown(name)}' not found: {served}") from None


def told_name(asked: str, gateway: Gateway) -> str:
    """Return the model's name in an answer: as the caller wrote it, but never an alias."""
    served = gateway.settings.model
    return asked if full_name(asked) == full_name(served) else served
