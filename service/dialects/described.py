"""The description of a route for the OpenAPI document, and the JSON schemas that descriptions share."""

from dataclasses import dataclass
from typing import Any

from service.parsing import Body

Document = dict[str, Any]

TEXT, NUMBER, COUNT = {"type": "string"}, {"type": "number"}, {"type": "integer", "minimum": 0}
NDJSON_PIECES = {"application/x-ndjson": {"schema": TEXT}}
EVENTS: Document = {"text/event-stream": {}}


@dataclass(frozen=True)
class Route:
    """A route of the API. answer: the JSON schema of a whole answer; None: the route always refuses, with a 403.

    body: of the request; None: it has none. pieces: the schemas of a stream, by content type.
    """

    method: str
    path: str
    summary: str
    answer: Document | None
    body: type[Body] | None = None
    pieces: Document | None = None


def object_of(**fields: Any) -> Document:
    """Return the schema of an object with these required fields."""
    return {"type": "object", "properties": fields, "required": list(fields)}


def list_of(items: Document) -> Document:
    """Return the schema of a list."""
    return {"type": "array", "items": items}
