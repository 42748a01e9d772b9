"""Answers in Ollama's form: objects with the time, the model and, at the end, durations in nanoseconds."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from flask import Response, jsonify

from service.dialects.described import COUNT, TEXT, Document, list_of, object_of
from service.dialects.errors import ollama
from service.dialects.ollama_body import GenerationBody, told_name
from service.engine_errors import RETRY_AFTER
from service.errors import EngineUnavailable
from service.fitting import joined
from service.gateway import Caller, Gateway
from service.generation import Generation
from service.model_facts import Fields
from service.question import Question
from service.streams import NDJSON, new_id

Shape = Callable[[Fields], Fields]  # puts a message into the route's objects
NOTHING: Fields = {"role": "assistant", "content": ""}
CALL = object_of(id=TEXT, function=object_of(index=COUNT, name=TEXT, arguments={"type": "object"}))
MESSAGE = object_of(role={"const": "assistant"}, content=TEXT)
MESSAGE["properties"] |= {"thinking": TEXT, "tool_calls": list_of(CALL)}
FIGURES = (
    *("total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"),
)


def answer_schema(**fields: Any) -> Document:
    """Return the JSON schema of a whole answer with these fields; an answer to a load or unload has no figures."""
    reason = {"enum": ["stop", "length", "load", "unload"]}
    schema = object_of(model=TEXT, created_at=TEXT, **fields, done={"const": True}, done_reason=reason)
    schema["properties"] |= dict.fromkeys(FIGURES, COUNT)
    return schema


def respond(who: Caller, asked: GenerationBody, question: Question, gateway: Gateway, shape: Shape) -> Response:
    """Ask the model, and return its answer, whole or as a stream."""
    answer, name = question.ask(gateway, who), told_name(asked.model, gateway)
    if question.stream:
        return NDJSON.respond(answer, pieces(answer, name, shape), lambda error: [ollama(error)])
    with answer:
        return jsonify(whole(answer, name, shape))


def respond_idle(asked: GenerationBody, question: Question, gateway: Gateway, shape: Shape) -> Response:
    """Answer a request without a prompt, which in Ollama loads or unloads the model, and does neither here."""
    if not asked.unloads:
        gateway.need_chat()
        question.thinks(gateway)
        check_ready(gateway)
    reason = "unload" if asked.unloads else "load"
    return jsonify({**head(told_name(asked.model, gateway)), **shape(NOTHING), "done": True, "done_reason": reason})


def check_ready(gateway: Gateway) -> None:
    """Raise EngineUnavailable unless the model is loaded."""
    if not gateway.watch.ready:
        raise EngineUnavailable("the model is not loaded yet", retry_after=RETRY_AFTER)


def pieces(answer: Generation, model: str, shape: Shape) -> Iterator[Fields]:
    """Yield the objects of a streamed answer; the last one has the figures."""
    for message in messages(answer):
        if message != NOTHING:
            yield {**head(model), **shape(message), "done": False}
    yield {**head(model), **shape(NOTHING), "done": True, **figures(answer)}


def whole(answer: Generation, model: str, shape: Shape) -> Fields:
    """Return the whole answer as one object."""
    said = list(messages(answer.whole()))
    calls = [call for message in said for call in message.get("tool_calls", ())]
    message = _message(joined(said), joined(said, "thinking"), calls)
    return {**head(model), **shape(message), "done": True, **figures(answer)}


def messages(told: Iterable[Fields]) -> Iterator[Fields]:
    """Yield the model's messages, with tool calls numbered within the answer and with unique ids."""
    called = 0
    for message in told:
        calls = [_call(call, number) for number, call in enumerate(message.get("tool_calls") or (), called)]
        called += len(calls)
        yield _message(message["content"], message.get("thinking", ""), calls)


def _message(text: str, thoughts: str, calls: list[Fields]) -> Fields:
    optional = {"thinking": thoughts, "tool_calls": calls}
    return {"role": "assistant", "content": text, **{name: value for name, value in optional.items() if value}}


def _call(call: Fields, number: int) -> Fields:
    function = call["function"]
    return {
        "id": new_id("call"),
        "function": {"index": number, "name": function["name"], "arguments": function["arguments"]},
    }


def head(model: str) -> Fields:
    """Return the first fields of every object."""
    return {"model": model, "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z")}


def figures(answer: Generation) -> Fields:
    """Return how a complete answer ended, its tokens, and its durations in nanoseconds.

    The total counts from the request's arrival, waiting included. The others are the engine's, or if it reports none,
    the gateway's estimates.
    """
    record, usage, told = answer.caller.record, answer.usage, answer.durations
    queued, first, total = record.queued_ms or 0.0, record.first_token_ms or 0.0, record.elapsed_ms()
    return {
        "done_reason": record.finish_reason,
        "total_duration": nanoseconds(total),
        "load_duration": told.get("load_duration", 0),
        "prompt_eval_count": usage["prompt_tokens"],
        "prompt_eval_duration": told.get("prompt_eval_duration", nanoseconds(first - queued)),
        "eval_count": usage["completion_tokens"],
        "eval_duration": told.get("eval_duration", nanoseconds(total - first)),
    }


def nanoseconds(milliseconds: float) -> int:
    """Return a duration in nanoseconds, Go's unit."""
    return max(0, round(milliseconds * 1e6))
