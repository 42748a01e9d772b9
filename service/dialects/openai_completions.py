"""`POST /v1/completions`, OpenAI's oldest route: answers a prompt, whole or as a stream.

As in Ollama, the prompt goes through the model's template as a message of the user; it isn't continued verbatim.
"""

import time
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from flask import Blueprint, Response, jsonify
from pydantic import BeforeValidator, Field

from service.dialects.described import COUNT, EVENTS, TEXT, Route, list_of, object_of
from service.dialects.openai_chat import OPENAI_SSE, USAGE, broken, openai_usage
from service.dialects.openai_embeddings import no_tokens
from service.dialects.openai_sampling import SamplingBody
from service.dialects.unions import TextOrList
from service.fitting import joined
from service.generation import Generation
from service.http_request import caller, read_body
from service.keys import Keys
from service.models import Models
from service.parsing import Text, parse
from service.question import Question, Turn

Prompt = Annotated[
    TextOrList[Text, Annotated[list[Text], Field(min_length=1, max_length=1)]], BeforeValidator(no_tokens)
]


class CompletionsBody(SamplingBody):
    """The body of POST /v1/completions; prompt is a text, or a list of one text."""

    example = """send JSON, such as: curl "$URL/v1/completions" -d '{"model": "MODEL", "prompt": "Hi"}'"""
    refused: ClassVar = {"suffix": "is not supported: a prompt is answered, not filled in"}

    prompt: Prompt
    # Only the values that have no effect.
    best_of: Literal[1] = 1
    echo: Literal[False] = False
    logprobs: Literal[0] = 0

    def question(self) -> Question:
        """Return the question."""
        text, field = (self.prompt, "prompt") if isinstance(self.prompt, str) else (self.prompt[0], "prompt[0]")
        return Question(
            [Turn(field, "user", [text], text_field=field)],
            "prompt",
            self.sampling(),
            model=self.model,
            max_tokens=self.max_tokens,
            stream=self.stream,
            stream_usage=self.stream_usage,
        )


CHOICE = object_of(index=COUNT, text=TEXT, finish_reason={"enum": ["stop", "length"]})
COMPLETION = object_of(
    id=TEXT, object={"const": "text_completion"}, created=COUNT, model=TEXT, choices=list_of(CHOICE), usage=USAGE
)
ROUTES = (Route("POST", "/v1/completions", "Answer a prompt", COMPLETION, CompletionsBody, EVENTS),)


def completions_blueprint(models: Models, keys: Keys | None) -> Blueprint:
    """Return the route."""
    blueprint = Blueprint("completions", __name__)

    @blueprint.post("/v1/completions")
    def complete() -> Response:
        who, question = caller(keys), parse(CompletionsBody, read_body()).question()
        answer = question.ask(models.find(question.model, who.key), who)
        if question.stream:
            return OPENAI_SSE.respond(answer, pieces(answer, question.stream_usage), broken)
        with answer:
            choice = chosen(joined(answer.whole()), answer.caller.record.finish_reason)
            return jsonify({**envelope(answer), "choices": [choice], "usage": openai_usage(answer)})

    return blueprint


def envelope(answer: Generation) -> dict[str, Any]:
    """Return the first fields of an answer and of each of its pieces."""
    return {
        "id": f"cmpl-{answer.caller.record.request_id}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": answer.gateway.settings.model,
    }


def chosen(text: str, reason: str | None = None) -> dict[str, Any]:
    """Return a text as the only choice; reason: why the answer ends with it, if it does."""
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}


def pieces(answer: Generation, include_usage: bool) -> Iterator[dict[str, Any]]:
    """Yield the answer in pieces as they come."""
    begin = envelope(answer) | ({"usage": None} if include_usage else {})
    for message in answer:
        if message["content"]:
            yield {**begin, "choices": [chosen(message["content"])]}
    yield {**begin, "choices": [chosen("", answer.caller.record.finish_reason)]}
    if include_usage:
        yield {**begin, "choices": [], "usage": openai_usage(answer)}
