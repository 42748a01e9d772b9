"""How a route is described in the OpenAPI document, and the few JSON schemas that the descriptions share."""

from dataclasses import dataclass
from typing import Any

from service.parsing import Body

Document = dict[str, Any]

TEXT, NUMBER, COUNT = {"type": "string"}, {"type": "number"}, {"type": "integer", "minimum": 0}
NDJSON_PIECES = {"application/x-ndjson": {"schema": TEXT}}
EVENTS: Document = {"text/event-stream": {}}


@dataclass(frozen=True)
class Route:
    """A route of the API. answer: a JSON schema of the whole answer; None: it is refused to everybody, with a 403.

    body: what is sent; None: nothing, the route only tells something. pieces: what a stream is, by content type.
    """

    method: str
    path: str
    summary: str
    answer: Document | None
    body: type[Body] | None = None
    pieces: Document | None = None


def object_of(**fields: Any) -> Document:
    """Return the schema of an object that has all of these fields."""
    return {"type": "object", "properties": fields, "required": list(fields)}


def list_of(items: Document) -> Document:
    """Return the schema of a list."""
    return {"type": "array", "items": items}
