"""The tools of `POST /v1/chat/completions`, and the required form of its answer."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from service.errors import InvalidRequest
from service.parsing import Body, Name
from service.question import Form
from service.question import Tool as AskedTool


class Function(Body):
    """A function that the model may call; parameters is a JSON schema, which `strict` enforces for the arguments."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool = False


class Tool(Body):
    """A tool that the model may call."""

    type: Literal["function"]
    function: Function

    def asked(self, field: str) -> AskedTool:
        """Return the tool at `field` for the question."""
        function = self.function
        where = f"{field}.function"
        return AskedTool(where, function.name, function.description, function.parameters, function.strict)


class NamedFunction(Body):
    """The name of a function."""

    name: Name


class NamedTool(Body):
    """The tool that the model must call."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchema(Body):
    """A named JSON schema, always enforced, regardless of `strict`. Only the schema is passed on."""

    name: Name
    schema_: dict[str, Any] = Field(alias="schema")
    description: Annotated[str, Field(max_length=4096)] | None = None
    strict: bool | None = None


# The condition of asked() below.
NEEDS_SCHEMA: JsonDict = {
    "anyOf": [
        {"properties": {"type": {"enum": ["text", "json_object"]}}},
        {"properties": {"json_schema": {"type": "object"}}, "required": ["json_schema"]},
    ]
}


class ResponseFormat(Body):
    """The required form of the answer."""

    model_config = ConfigDict(json_schema_extra=NEEDS_SCHEMA)

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def asked(self) -> Form | None:
        """Return the form for the question, None for plain text; raises InvalidRequest."""
        if self.type == "json_schema":
            if self.json_schema is None:
                raise InvalidRequest("response_format.json_schema: is required with type json_schema")
            return Form("response_format.json_schema.schema", self.json_schema.schema_)
        return Form("response_format") if self.type == "json_object" else None
