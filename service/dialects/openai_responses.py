"""`POST /v1/responses`, OpenAI's newer route, whole or as a stream of events; nothing is stored."""

import time
from collections import deque
from collections.abc import Iterator
from itertools import starmap
from typing import Any

from flask import Blueprint, Response, jsonify

from service.dialects.described import COUNT, EVENTS, TEXT, Route, list_of, object_of
from service.dialects.errors import openai
from service.dialects.openai_responses_body import ResponsesBody
from service.dialects.openai_responses_output import Output
from service.errors import ServiceError
from service.generation import Generation
from service.http_request import caller, read_body
from service.keys import Keys
from service.models import Models
from service.parsing import parse
from service.streams import NAMED_SSE

# The same for every answer.
FIXED = {
    "background": False,
    "previous_response_id": None,
    "service_tier": "default",
    "store": False,
    "top_logprobs": 0,
    "truncation": "disabled",
    "user": None,
}
USAGE = object_of(input_tokens=COUNT, output_tokens=COUNT, total_tokens=COUNT)
RESPONSE = object_of(
    id=TEXT,
    object={"const": "response"},
    created_at=COUNT,
    status={"enum": ["completed", "incomplete"]},
    model=TEXT,
    output=list_of(object_of(id=TEXT, type={"enum": ["message", "function_call", "reasoning"]})),
    usage=USAGE,
)
ROUTES = (Route("POST", "/v1/responses", "Go on with a conversation", RESPONSE, ResponsesBody, EVENTS),)


def responses_blueprint(models: Models, keys: Keys | None) -> Blueprint:
    """Return the route."""
    blueprint = Blueprint("responses", __name__)

    @blueprint.post("/v1/responses")
    def respond() -> Response:
        who, body = caller(keys), parse(ResponsesBody, read_body())
        question, told = body.question(), body.told(models.settings.max_tokens)
        output = Output(thoughts=body.shows_thoughts)
        del body  # to release its images
        answer = question.ask(models.find(question.model, who.key), who)
        run = Run(answer, output, told)
        if question.stream:
            return NAMED_SSE.respond(answer, run.events(), run.broken)
        with answer:
            return jsonify(run.whole())

    return blueprint


class Run:
    """An answer in progress. told: the fields of the request that it repeats."""

    def __init__(self, answer: Generation, output: Output, told: dict[str, Any]) -> None:
        self._answer, self._output, self._told = answer, output, told
        self._created, self._events = int(time.time()), 0

    def whole(self) -> dict[str, Any]:
        """Return the whole answer as one object."""
        for message in self._answer.whole():
            deque(self._output.add(message), 0)
        deque(self._output.end(cut=self._answer.cut), 0)
        return self._ended()

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events of the answer."""
        yield self._event("created", {"response": self._response("in_progress")})
        yield self._event("in_progress", {"response": self._response("in_progress")})
        for message in self._answer:
            yield from starmap(self._event, self._output.add(message))
        yield from starmap(self._event, self._output.end(cut=self._answer.cut))
        response = self._ended()
        yield self._event(response["status"], {"response": response})

    def broken(self, error: ServiceError) -> list[dict[str, Any]]:
        """Return the events that end a stream that fails.

        OpenAI's Python client ignores the first one, and raises an error because of the second one's `error`.
        """
        code = "server_error" if error.status >= 500 else "invalid_prompt"
        told = openai(error)
        failed = self._response("failed", error={"code": code, "message": told["error"]["message"]})
        flat = {name: told["error"][name] for name in ("code", "message", "param")}
        return [self._event("failed", {"response": failed}), self._numbered("error", {**flat, **told})]

    def _event(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        return self._numbered(f"response.{name}", fields)

    def _numbered(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        number = self._events
        self._events += 1
        return {"type": kind, "sequence_number": number, **fields}

    def _ended(self) -> dict[str, Any]:
        if not self._answer.cut:
            return self._response("completed", completed_at=int(time.time()), usage=usage(self._answer))
        details = {"reason": "max_output_tokens"}
        return self._response("incomplete", incomplete_details=details, usage=usage(self._answer))

    def _response(self, status: str, **fields: Any) -> dict[str, Any]:
        return {
            "id": f"resp_{self._answer.caller.record.request_id}",
            "object": "response",
            "created_at": self._created,
            "status": status,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "model": self._answer.gateway.settings.model,
            "output": self._output.items,
            **self._told,
            **FIXED,
            "usage": None,
            **fields,
        }


def usage(answer: Generation) -> dict[str, Any]:
    """Return the token usage in this route's form; Ollama counts neither thoughts nor cached tokens separately."""
    prompt, completion = answer.usage["prompt_tokens"], answer.usage["completion_tokens"]
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + completion,
    }
