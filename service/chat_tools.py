"""The tools of `POST /v1/chat/completions`, and the form of its answer: both are told in JSON schemas."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from service.errors import InvalidRequest
from service.json_input import write_size
from service.parsing import Body, Name
from service.schemas import TYPES, safe_schema

MAX_TOOLS = 128
HINT = "it must be a JSON schema, as OpenAI's clients write it"


class Function(Body):
    """A function the model may call; parameters is a JSON schema, which the model reads. `strict` changes nothing."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Body):
    """A tool the model may use."""

    type: Literal["function"]
    function: Function

    def sizes(self, field: str) -> Iterator[tuple[str, int]]:
        """Yield the characters that are sent on of tool `field`, by field."""
        yield f"{field}.function.name", len(self.function.name)
        yield f"{field}.function.description", len(self.function.description or "")
        yield f"{field}.function.parameters", write_size(self.function.parameters or {})

    def for_ollama(self, field: str) -> dict[str, Any]:
        """Return tool `field` as Ollama wants it; raises InvalidRequest."""
        if self.function.parameters:
            check_parameters(f"{field}.function.parameters", self.function.parameters)
        return self.model_dump(exclude_none=True, exclude={"function": {"strict"}})


def check_parameters(field: str, schema: Any) -> None:
    """Refuse a JSON schema whose keywords have values that the engine can't read; raises InvalidRequest."""
    if not isinstance(schema, dict):
        raise InvalidRequest(f"{field}: must be an object", hint=HINT)
    kinds = schema.get("type", [])
    if not all(kind in TYPES for kind in (kinds if isinstance(kinds, list) else [kinds])):
        raise InvalidRequest(f"{field}.type: must be one of {', '.join(TYPES)}", hint=HINT)
    for word, kind in {"description": str, "enum": list, "required": list, "properties": dict, "anyOf": list}.items():
        if not isinstance(schema.get(word, kind()), kind):
            raise InvalidRequest(f"{field}.{word}: has a value of the wrong type", hint=HINT)
    if not all(isinstance(name, str) for name in schema.get("required", ())):
        raise InvalidRequest(f"{field}.required: must be a list of names", hint=HINT)
    for name, each in schema.get("properties", {}).items():
        check_parameters(f"{field}.properties.{name[:64]}", each)
    for i, each in enumerate(schema.get("anyOf", ())):
        check_parameters(f"{field}.anyOf[{i}]", each)


class JsonSchema(Body):
    """A named JSON schema; the answer always keeps to it, whatever `strict` says. Only the schema is sent on."""

    name: Name
    schema_: dict[str, Any] = Field(alias="schema")
    description: Annotated[str, Field(max_length=4096)] | None = None
    strict: bool | None = None


# What for_ollama() below checks, in JSON Schema's words.
NEEDS_SCHEMA: JsonDict = {
    "anyOf": [
        {"properties": {"type": {"enum": ["text", "json_object"]}}},
        {"properties": {"json_schema": {"type": "object"}}, "required": ["json_schema"]},
    ]
}


class ResponseFormat(Body):
    """What the answer must look like."""

    model_config = ConfigDict(json_schema_extra=NEEDS_SCHEMA)

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield the characters of the schema, by field."""
        if self.json_schema:
            yield "response_format.json_schema.schema", write_size(self.json_schema.schema_)

    def for_ollama(self) -> dict[str, Any]:
        """Return Ollama's `format` field, or nothing for text; raises InvalidRequest."""
        if self.type == "json_schema":
            if self.json_schema is None:
                raise InvalidRequest("response_format.json_schema: is required with type json_schema")
            return {"format": safe_schema("response_format.json_schema.schema", self.json_schema.schema_)}
        return {"format": "json"} if self.type == "json_object" else {}
