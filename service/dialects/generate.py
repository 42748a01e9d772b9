"""`POST /generate`: answers a prompt, whole or as a stream."""

from collections.abc import Iterator
from typing import Annotated, Any

from flask import Blueprint, Response, jsonify, request
from pydantic import Field

from service.dialects.described import COUNT, EVENTS, NDJSON_PIECES, NUMBER, TEXT, Route, object_of
from service.fitting import joined
from service.generation import Generation
from service.http_request import caller, read_body
from service.keys import Keys
from service.models import Models
from service.parsing import Body, Image, Items, MaxTokens, Name, Seed, Stop, Temperature, Text, drop_none, parse
from service.question import Question, Turn, system_turns
from service.streams import NDJSON, SSE


class GenerateBody(Body):
    """The body of POST /generate. images: PNG, JPEG, WebP or GIF files in base64, or as data URLs."""

    example = """send JSON, such as: curl "$URL/generate" -d '{"prompt": "Why is the sky blue?"}'"""

    prompt: Text
    system: str | None = None
    images: Annotated[Items[Image], Field(max_length=64)] | None = None
    model: Name | None = None
    stream: bool = False
    max_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    think: bool = False

    def question(self) -> Question:
        """Return the question."""
        images = {f"images[{i}]": data for i, data in enumerate(self.images or ())}
        return Question(
            [*system_turns(self.system), Turn("prompt", "user", [self.prompt], images, text_field="prompt")],
            "prompt",
            drop_none(temperature=self.temperature, stop=self.stop, seed=self.seed),
            model=self.model,
            max_tokens=self.max_tokens,
            think=self.think,
            think_field="think",
            stream=self.stream,
        )


ANSWER = object_of(
    response=TEXT,
    model=TEXT,
    finish_reason={"enum": ["stop", "length"]},
    usage=object_of(prompt_tokens=COUNT, completion_tokens=COUNT),
    timings=object_of(
        queued_ms=NUMBER, first_token_ms=NUMBER, total_ms=NUMBER, busy_slots={"type": ["number", "null"]}
    ),
)
ROUTES = (Route("POST", "/generate", "Answer a prompt", ANSWER, GenerateBody, NDJSON_PIECES | EVENTS),)


def generate_blueprint(models: Models, keys: Keys | None) -> Blueprint:
    """Return the route."""
    blueprint = Blueprint("generate", __name__)

    @blueprint.post("/generate")
    def generate() -> Response:
        who, question = caller(keys), parse(GenerateBody, read_body()).question()
        think = bool(question.think)
        answer = question.ask(models.find(question.model, who.key), who)
        if question.stream:
            form = SSE if SSE.content_type in request.headers.get("Accept", "") else NDJSON
            return form.respond(answer, pieces(answer, think), lambda error: [error.body()])
        with answer:
            return jsonify({**whole(answer, think), **ending(answer)})

    return blueprint


def whole(answer: Generation, think: bool) -> dict[str, str]:
    """Return the text of an answer, and the model's thoughts if `think`."""
    messages = answer.whole()
    return {"response": joined(messages), **({"thinking": joined(messages, "thinking")} if think else {})}


def pieces(answer: Generation, think: bool) -> Iterator[dict[str, Any]]:
    """Yield the objects of a streamed answer, the last one with `done: true`; thoughts only if `think`."""
    for message in answer:
        if think and message.get("thinking"):
            yield {"response": "", "thinking": message["thinking"]}
        if message["content"]:
            yield {"response": message["content"]}
    yield {"response": "", "done": True, **ending(answer)}


def ending(answer: Generation) -> dict[str, Any]:
    """Return the fields that are known once an answer is complete."""
    return {
        "model": answer.gateway.settings.model,
        "finish_reason": answer.caller.record.finish_reason,
        "usage": answer.usage,
        "timings": answer.timings,
    }
