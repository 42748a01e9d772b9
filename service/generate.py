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
from service.routing import SSE, caller, check_model, ndjson, read_body, sse, stream


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
        return {"messages": [*system, user]}, options


def generate_blueprint(gateway: Gateway, keys: Keys | None) -> Blueprint:
    """Return the route."""
    blueprint = Blueprint("generate", __name__)

    @blueprint.post("/generate")
    def generate() -> Response:
        who, events = caller(keys), SSE in request.headers.get("Accept", "")
        body = parse(GenerateBody, read_body())
        answer = gateway.generate(who, *body.for_ollama(gateway))
        if body.stream:
            return stream(answer, pieces(answer), sse if events else ndjson)
        with answer:
            text = "".join(message["content"] for message in answer.whole())
            return jsonify({"response": text, **ending(answer)})

    return blueprint


def pieces(answer: Answer) -> Iterator[dict[str, Any]]:
    """Yield the objects of a streamed answer, the last one with `done: true`."""
    for message in answer:
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
