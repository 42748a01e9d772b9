"""`POST /generate`: a prompt in, an answer out, whole or as a stream."""

from collections.abc import Iterator
from typing import Annotated, Any

from flask import Blueprint, Response, jsonify, request
from pydantic import Field

from service.gateway import Answer, Gateway
from service.keys import Keys
from service.parsing import (
    Body,
    Image,
    Items,
    MaxTokens,
    Seed,
    Stop,
    Temperature,
    Text,
    check_images,
    check_max_tokens,
    check_size,
    given,
    parse,
)
from service.routing import SSE, caller, check_model, check_thinks, ndjson, read_body, sse, stream


class GenerateBody(Body):
    """The body of POST /generate. images: PNG, JPEG, WebP or GIF files in base64, or as data URLs."""

    example = """send JSON, such as: curl "$URL/generate" -d '{"prompt": "Why is the sky blue?"}'"""

    prompt: Text
    system: str | None = None
    images: Annotated[Items[Image], Field(max_length=64)] | None = None
    model: str | None = None
    stream: bool = False
    max_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    think: bool = False

    def for_ollama(self, gateway: Gateway) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return chat and options for Ollama, and forget the images as they were sent.

        Raises a ServiceError for what the settings or the model don't allow.
        """
        check_model(self.model, gateway)
        texts = {"prompt": self.prompt, "system": self.system or "", "stop": "".join(self.stop or ())}
        check_size([(name, len(text)) for name, text in texts.items()], gateway.settings)
        check_max_tokens("max_tokens", self.max_tokens, gateway.settings)
        fields = {f"images[{i}]": data for i, data in enumerate(self.images or ())}
        self.images = None
        user: dict[str, Any] = {"role": "user", "content": self.prompt}
        if fields:
            user["images"] = check_images(fields, gateway.settings, gateway.watch.capabilities)
        system = [{"role": "system", "content": self.system}] if self.system else []
        options = given(num_predict=self.max_tokens, temperature=self.temperature, stop=self.stop, seed=self.seed)
        if self.think:
            check_thinks("think", gateway)
        return {"messages": [*system, user], "think": self.think}, options


def generate_blueprint(gateway: Gateway, keys: Keys | None) -> Blueprint:
    """Return the route."""
    blueprint = Blueprint("generate", __name__)

    @blueprint.post("/generate")
    def generate() -> Response:
        who, events = caller(keys), SSE in request.headers.get("Accept", "")
        body = parse(GenerateBody, read_body())
        answer = gateway.generate(who, *body.for_ollama(gateway))
        if body.stream:
            return stream(answer, pieces(answer, body.think), sse if events else ndjson)
        with answer:
            return jsonify({**whole(answer, body.think), **ending(answer)})

    return blueprint


def whole(answer: Answer, think: bool) -> dict[str, str]:
    """Return the text of an answer, and the model's thoughts where they were asked for."""
    messages = answer.whole()
    text, thoughts = ("".join(message.get(name, "") for message in messages) for name in ("content", "thinking"))
    return {"response": text, **({"thinking": thoughts} if think else {})}


def pieces(answer: Answer, think: bool) -> Iterator[dict[str, Any]]:
    """Yield the objects of a streamed answer, the last one with `done: true`; thoughts only where asked for."""
    for message in answer:
        if think and message.get("thinking"):
            yield {"response": "", "thinking": message["thinking"]}
        if message["content"]:
            yield {"response": message["content"]}
    yield {"response": "", "done": True, **ending(answer)}


def ending(answer: Answer) -> dict[str, Any]:
    """Return what is known once an answer is complete."""
    return {
        "model": answer.gateway.settings.model,
        "finish_reason": answer.caller.record.finish_reason,
        "usage": answer.usage,
        "timings": answer.timings,
    }
