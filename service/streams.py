"""Sending answers: piece by piece while the model generates, or item by item if a whole answer is large."""

import json
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from flask import Response

from service.errors import OWN_FAULT, ClientClosedRequest, ClientGone, ServiceError
from service.generation import Generation

log = logging.getLogger("sluice")

Item = dict[str, Any]


@dataclass(frozen=True)
class StreamFormat:
    """How the objects of a stream are written. end: follows the last one of a complete answer."""

    content_type: str
    write: Callable[[Item], str]
    end: str = ""

    def respond(
        self, answer: Generation, items: Iterable[Item], broken: Callable[[ServiceError], Iterable[Item]]
    ) -> Response:
        """Return a response of `items` as they come; broken: returns the last ones of an answer that fails.

        The answer is closed with the response, even if the response is never started.
        """
        response = Response(self._body(answer, items, broken), content_type=self.content_type)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"
        response.call_on_close(answer.close)
        return response

    def _body(
        self, answer: Generation, items: Iterable[Item], broken: Callable[[ServiceError], Iterable[Item]]
    ) -> Iterator[str]:
        try:
            yield from map(self.write, items)
            if self.end:
                yield self.end
        except ServiceError as error:
            answer.close(error)
            yield from map(self.write, broken(error))
        except ClientGone as gone:
            answer.close(gone)
            yield from map(self.write, broken(ClientClosedRequest()))
        except Exception as error:
            log.exception("a stream failed")
            answer.close(error)
            yield from map(self.write, broken(ServiceError(OWN_FAULT)))


def _line(item: Item) -> str:
    return f"{json.dumps(item)}\n"


def _event(item: Item) -> str:
    return f"data: {json.dumps(item)}\n\n"


def _named_event(item: Item) -> str:
    return f"event: {item['type']}\n{_event(item)}"


NDJSON = StreamFormat("application/x-ndjson", _line)
SSE = StreamFormat("text/event-stream", _event)
NAMED_SSE = StreamFormat("text/event-stream", _named_event)  # an event's name is its object's `type`


def new_id(kind: str) -> str:
    """Return an id that is unique across answers; Ollama's own are unique within one at most."""
    return f"{kind}_{uuid.uuid4().hex}"


def listing(fields: Item, name: str, items: Iterable[Any]) -> Response:
    """Return an object of `fields` and a list, which is written item by item because it may be large."""

    def pieces() -> Iterator[str]:
        yield f'{json.dumps(fields)[:-1]}, "{name}": ['
        for number, item in enumerate(items):
            yield f"{', ' if number else ''}{json.dumps(item)}"
        yield "]}\n"

    return Response(pieces(), content_type="application/json")
